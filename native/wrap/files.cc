// File descriptors, eventfds and netlink sockets for JavaScript.
#include "sys/eventfd.h"
#include "sys/file.h"
#include "sys/netlink.h"
#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

Value open_device(const CallbackInfo& info) {
  std::string path = to_string(info[0], "path");
  return from_fd(info.Env(), value_or_throw(info.Env(), vhostnet::open_device(path.c_str())));
}

Value adopt_fd(const CallbackInfo& info) {
  return from_fd(info.Env(), value_or_throw(info.Env(), adopt(to_int32(info[0], "fd"))));
}

Value fd_number(const CallbackInfo& info) { return from_number(info.Env(), to_fd(info[0])); }

Value fd_closed(const CallbackInfo& info) { return from_bool(info.Env(), to_handle<FdHandle>(info[0]).closed()); }

Value close_fd(const CallbackInfo& info) {
  to_handle<FdHandle>(info[0]).close();
  return info.Env().Undefined();
}

Value detach_fd(const CallbackInfo& info) {
  FdHandle& handle = to_open_handle<FdHandle>(info[0]);
  int fd = handle.fd.release();
  handle.close();
  return from_number(info.Env(), fd);
}

Value create_eventfd(const CallbackInfo& info) {
  return from_fd(info.Env(), value_or_throw(info.Env(), eventfd_create()));
}

Value write_eventfd(const CallbackInfo& info) {
  value_or_throw(info.Env(), eventfd_write(to_fd(info[0]), to_uint64(info[1], "value")));
  return info.Env().Undefined();
}

Value read_eventfd(const CallbackInfo& info) {
  return from_uint64(info.Env(), value_or_throw(info.Env(), eventfd_read(to_fd(info[0]))));
}

Value create_netlink_socket(const CallbackInfo& info) {
  auto fd = netlink_socket(to_int32(info[0], "protocol"), to_uint32(info[1], "groups"));
  return from_fd(info.Env(), value_or_throw(info.Env(), std::move(fd)));
}

Value send_netlink(const CallbackInfo& info) {
  auto message = to_bytes(info[1], "message");
  value_or_throw(info.Env(), netlink_send(to_fd(info[0]), message.data(), message.size()));
  return info.Env().Undefined();
}

Value receive_netlink(const CallbackInfo& info) {
  auto buffer = to_bytes(info[1], "buffer");
  auto length = netlink_receive(to_fd(info[0]), buffer.data(), buffer.size());
  return from_number(info.Env(), static_cast<double>(value_or_throw(info.Env(), std::move(length))));
}

constexpr Export kExports[] = {
    {"openDevice", open_device},
    {"adoptFd", adopt_fd},
    {"fdNumber", fd_number},
    {"fdClosed", fd_closed},
    {"closeFd", close_fd},
    {"detachFd", detach_fd},
    {"eventfdCreate", create_eventfd},
    {"eventfdWrite", write_eventfd},
    {"eventfdRead", read_eventfd},
    {"netlinkSocket", create_netlink_socket},
    {"netlinkSend", send_netlink},
    {"netlinkReceive", receive_netlink},
};

}  // namespace

void export_files(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
