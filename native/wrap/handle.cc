#include "wrap/handle.h"

#include <unordered_map>

namespace vhostnet::wrap {

namespace {

thread_local std::unordered_map<void*, const char*> handles;

void close_at_exit(void* handle) { static_cast<Handle*>(handle)->close(); }

}  // namespace

void remember_handle(void* handle, const char* kind) { handles.emplace(handle, kind); }

void forget_handle(void* handle) { handles.erase(handle); }

void* find_handle(const Napi::Value& value, const char* kind) {
  void* pointer;
  if (napi_get_value_external(value.Env(), value, &pointer) != napi_ok) return nullptr;
  auto found = handles.find(pointer);
  return found != handles.end() && found->second == kind ? pointer : nullptr;
}

void throw_closed(Napi::Env env, const char* name) {
  Napi::Error error = Napi::Error::New(env, std::string("the ") + name + " is closed");
  error.Set("code", Napi::String::New(env, "ERR_CLOSED"));
  throw error;
}

Handle::Handle(Napi::Env env) : env_(env) { napi_add_env_cleanup_hook(env_, close_at_exit, this); }

void Handle::close() {
  if (closed_) return;
  closed_ = true;
  napi_remove_env_cleanup_hook(env_, close_at_exit, this);
  release();
}

// The fd goes first: only then has the vhost worker let go of the memory.
void FdHandle::release() {
  fd.reset();
  let_go();
}

void MappingHandle::release() {
  views.clear();
  mapping.reset();
}

}  // namespace vhostnet::wrap
