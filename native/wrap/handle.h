// Native resources as opaque JavaScript values, released by close, by collection or by the end of the environment.
#pragma once

#include <linux/filter.h>
#include <napi.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sys/memory.h"
#include "sys/unique_fd.h"

namespace vhostnet::wrap {

// A resource registers a cleanup hook of its own when it is made. Node runs those newest first, so at the end of an
// environment (a worker's too) things close in the reverse order of their making, and nothing is static.
class Handle {
 public:
  explicit Handle(Napi::Env env);
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  virtual ~Handle() = default;

  // Idempotent.
  void close();
  bool closed() const { return closed_; }

 protected:
  virtual void release() = 0;

 private:
  napi_env env_;
  bool closed_ = false;
};

class FdHandle final : public Handle {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "fd";
  FdHandle(Napi::Env env, UniqueFd opened) : Handle(env), fd(std::move(opened)) {}

  UniqueFd fd;
  // What a vhost worker can reach through this fd stays mapped for as long as the fd is open: through its memory table,
  // its dirty log and its IOTLB.
  std::vector<std::shared_ptr<Mapping>> held;
  std::vector<std::shared_ptr<Mapping>> held_log;
  std::vector<std::shared_ptr<Mapping>> held_iotlb;
  // What a VM has as memory, by slot.
  std::map<uint32_t, std::shared_ptr<Mapping>> held_slots;
  // TUNATTACHFILTER: the kernel keeps the address and reads it again whenever TUNSETQUEUE attaches a queue.
  std::vector<sock_filter> filter;

  void let_go() {
    held.clear();
    held_log.clear();
    held_iotlb.clear();
    held_slots.clear();
  }

 private:
  void release() override;
};

class MappingHandle final : public Handle {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "mapping";
  MappingHandle(Napi::Env env, std::shared_ptr<Mapping> mapped) : Handle(env), mapping(std::move(mapped)) {}

  std::shared_ptr<Mapping> mapping;
  std::vector<Napi::Reference<Napi::ArrayBuffer>> views;  // weak

 private:
  void release() override;
};

// Every handle that JavaScript of this thread holds, by the address of its class's kKind. Something else that a caller
// passes is not among them: its address is looked up, never followed. A type tag would do the same at a higher price.
void remember_handle(void* handle, const char* kind);
void forget_handle(void* handle);
// nullptr where the value is no handle of that kind.
void* find_handle(const Napi::Value& value, const char* kind);

// The handle behind a value: a TypeError where it is another thing, an Error with code ERR_CLOSED once it is closed.
template <typename T>
T& to_handle(const Napi::Value& value) {
  void* handle = find_handle(value, &T::kKind);
  if (handle == nullptr)
    throw Napi::TypeError::New(value.Env(), std::string("the argument is not a ") + T::kName + " of this addon");
  return *static_cast<T*>(handle);
}

[[noreturn]] void throw_closed(Napi::Env env, const char* name);

template <typename T>
T& to_open_handle(const Napi::Value& value) {
  T& handle = to_handle<T>(value);
  if (handle.closed()) throw_closed(value.Env(), T::kName);
  return handle;
}

template <typename T>
Napi::Value from_handle(Napi::Env env, std::unique_ptr<T> handle) {
  auto external = Napi::External<T>::New(env, handle.get(), [](Napi::Env, T* collected) {
    collected->close();
    forget_handle(collected);
    delete collected;
  });
  remember_handle(handle.release(), &T::kKind);
  return external;
}

inline Napi::Value from_fd(Napi::Env env, UniqueFd fd) {
  return from_handle(env, std::make_unique<FdHandle>(env, std::move(fd)));
}

inline int to_fd(const Napi::Value& value) { return to_open_handle<FdHandle>(value).fd.get(); }

}  // namespace vhostnet::wrap
