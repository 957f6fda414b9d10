// Mappings and their ArrayBuffer windows for JavaScript.
#include "sys/memory.h"

#include <cstring>

#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

constexpr uint64_t kLargestView = 1ull << 30;

Value from_range(Napi::Env env, Result<MappedRange> mapped) {
  MappedRange range = value_or_throw(env, std::move(mapped));
  auto mapping = std::make_shared<Mapping>(range.address, range.size);
  return from_handle(env, std::make_unique<MappingHandle>(env, std::move(mapping)));
}

void check_range(Napi::Env env, const Mapping& mapping, uint64_t offset, uint64_t length) {
  if (!mapping.contains(offset, length))
    throw_out_of_range(env, "offset",
                       std::to_string(offset) + ", length " + std::to_string(length) + ", is outside the mapping");
}

Value create_memfd(const CallbackInfo& info) {
  std::string name = to_string(info[0], "name");
  return from_fd(info.Env(), value_or_throw(info.Env(), memfd_create(name.c_str(), to_uint32(info[1], "flags"))));
}

Value set_length(const CallbackInfo& info) {
  value_or_throw(info.Env(), truncate(to_fd(info[0]), to_size(info[1], "size")));
  return info.Env().Undefined();
}

Value seal(const CallbackInfo& info) {
  value_or_throw(info.Env(), add_seals(to_fd(info[0]), to_uint32(info[1], "seals")));
  return info.Env().Undefined();
}

Value map_private(const CallbackInfo& info) { return from_range(info.Env(), map_anonymous(to_size(info[0], "size"))); }

Value map_file(const CallbackInfo& info) {
  uint64_t offset = to_size(info[1], "offset");
  size_t size = to_size(info[2], "size");
  return from_range(info.Env(), map_shared(to_fd(info[0]), offset, size, to_bool(info[3], "reserve")));
}

// The reference belongs to this thread, as do all handles that can let go of it.
Value from_borrowed(uint8_t* address, size_t size, const Napi::Object& owner) {
  auto kept = std::make_shared<Napi::ObjectReference>(Napi::Persistent(owner));
  auto mapping = std::make_shared<Mapping>(address, size, std::move(kept));
  return from_handle(owner.Env(), std::make_unique<MappingHandle>(owner.Env(), std::move(mapping)));
}

Value borrow_range(const CallbackInfo& info) {
  auto* address = reinterpret_cast<uint8_t*>(to_uint64(info[0], "address"));
  size_t size = to_size(info[1], "size");
  Napi::Object owner = to_object(info[2], "owner");
  value_or_throw(info.Env(), check_mapped(address, size));
  return from_borrowed(address, size, owner);
}

// An ArrayBuffer can be transferred, and is then freed by who has it, whatever refers to the object that it left.
Value borrow_shared(const CallbackInfo& info) {
  auto bytes = to_bytes(info[0], "bytes");
  Napi::Object array = info[0].As<Napi::Object>();
  if (array.Get("buffer").IsArrayBuffer()) throw_wrong_type(info.Env(), "bytes", "is not of a SharedArrayBuffer");
  return from_borrowed(bytes.data(), bytes.size(), array);
}

Value seals_of(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), get_seals(to_fd(info[0]))));
}

Value file_system_of(const CallbackInfo& info) {
  FileSystem found = value_or_throw(info.Env(), file_system(to_fd(info[0])));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("type", Napi::Number::New(info.Env(), found.type));
  object.Set("bsize", Napi::Number::New(info.Env(), static_cast<double>(found.block_size)));
  return object;
}

Value advise_mapping(const CallbackInfo& info) {
  const Mapping& mapping = *to_open_handle<MappingHandle>(info[0]).mapping;
  value_or_throw(info.Env(), advise(mapping.address(), mapping.size(), to_int32(info[1], "advice")));
  return info.Env().Undefined();
}

Value mapping_address(const CallbackInfo& info) {
  const Mapping& mapping = *to_open_handle<MappingHandle>(info[0]).mapping;
  return from_uint64(info.Env(), reinterpret_cast<uint64_t>(mapping.address()));
}

Value mapping_view(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  MappingHandle& handle = to_open_handle<MappingHandle>(info[0]);
  uint64_t offset = to_size(info[1], "offset");
  uint64_t length = to_size(info[2], "length");
  check_range(env, *handle.mapping, offset, length);
  if (length > kLargestView) throw_out_of_range(env, "length", "is over 1 GiB");

  // The buffer itself keeps the memory mapped, so that a view nobody could detach any more is never left dangling.
  auto* keeper = new std::shared_ptr<Mapping>(handle.mapping);
  napi_value buffer;
  napi_status status = napi_create_external_arraybuffer(
      env, handle.mapping->address() + offset, length,
      [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<Mapping>*>(hint); }, keeper, &buffer);
  if (status != napi_ok) {
    delete keeper;
    Napi::Error error = Napi::Error::New(env, "this runtime forbids external ArrayBuffers");
    error.Set("code", Napi::String::New(env, "ERR_PLATFORM"));
    throw error;
  }
  std::erase_if(handle.views, [](auto& view) { return view.Value().IsEmpty(); });
  handle.views.push_back(Napi::Weak(Napi::ArrayBuffer(env, buffer)));
  return Value(env, buffer);
}

Value read_mapping(const CallbackInfo& info) {
  const Mapping& mapping = *to_open_handle<MappingHandle>(info[0]).mapping;
  uint64_t offset = to_size(info[1], "offset");
  auto target = to_bytes(info[2], "target");
  check_range(info.Env(), mapping, offset, target.size());
  if (!target.empty()) std::memcpy(target.data(), mapping.address() + offset, target.size());
  return info.Env().Undefined();
}

Value write_mapping(const CallbackInfo& info) {
  const Mapping& mapping = *to_open_handle<MappingHandle>(info[0]).mapping;
  uint64_t offset = to_size(info[1], "offset");
  auto source = to_bytes(info[2], "source");
  check_range(info.Env(), mapping, offset, source.size());
  if (!source.empty()) std::memcpy(mapping.address() + offset, source.data(), source.size());
  return info.Env().Undefined();
}

Value close_mapping(const CallbackInfo& info) {
  MappingHandle& handle = to_handle<MappingHandle>(info[0]);
  for (auto& view : handle.views) {
    Napi::ArrayBuffer buffer = view.Value();
    if (!buffer.IsEmpty() && !buffer.IsDetached()) buffer.Detach();
  }
  handle.close();
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"memfdCreate", create_memfd},       {"ftruncate", set_length},       {"addSeals", seal},
    {"mappingAdvise", advise_mapping},   {"mmapAnonymous", map_private},  {"mmapShared", map_file},
    {"mappingAddress", mapping_address}, {"mappingView", mapping_view},   {"mappingRead", read_mapping},
    {"mappingWrite", write_mapping},     {"closeMapping", close_mapping}, {"getSeals", seals_of},
    {"fstatfs", file_system_of},         {"borrowRange", borrow_range},   {"borrowShared", borrow_shared},
};

}  // namespace

void export_memory(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
