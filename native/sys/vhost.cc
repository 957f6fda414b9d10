#include "sys/vhost.h"

#include <poll.h>
#include <unistd.h>

#include <cstring>

#include "sys/ioctl.h"
#include "sys/signals_blocked.h"

namespace vhostnet {

using namespace uapi;

namespace {

struct FeaturesArgument {
  vhost_features_array header;
  VhostFeatures features;
};
static_assert(sizeof(FeaturesArgument) == 24);

// The argument is a u8, but a kernel that does not know the number reads a u32 here, a ring's index.
union ForkArgument {
  uint32_t whole;
  uint8_t mode;
};

}  // namespace

Result<uint64_t> vhost_get_features(int fd) {
  uint64_t features = 0;
  if (auto done = control(fd, VHOST_GET_FEATURES, "VHOST_GET_FEATURES", &features); !done.ok()) return done.error();
  return features;
}

Result<void> vhost_set_features(int fd, uint64_t features) {
  return control(fd, VHOST_SET_FEATURES, "VHOST_SET_FEATURES", &features);
}

Result<VhostFeatures> vhost_get_features_array(int fd) {
  FeaturesArgument argument{{VhostFeatures{}.size()}, {}};
  auto done = control(fd, VHOST_GET_FEATURES_ARRAY, "VHOST_GET_FEATURES_ARRAY", &argument);
  if (!done.ok()) return done.error();
  return argument.features;
}

Result<void> vhost_set_features_array(int fd, const VhostFeatures& features) {
  FeaturesArgument argument{{features.size()}, features};
  return control(fd, VHOST_SET_FEATURES_ARRAY, "VHOST_SET_FEATURES_ARRAY", &argument);
}

Result<uint64_t> vhost_get_backend_features(int fd) {
  uint64_t features = 0;
  auto done = control(fd, VHOST_GET_BACKEND_FEATURES, "VHOST_GET_BACKEND_FEATURES", &features);
  if (!done.ok()) return done.error();
  return features;
}

Result<void> vhost_set_backend_features(int fd, uint64_t features) {
  return control(fd, VHOST_SET_BACKEND_FEATURES, "VHOST_SET_BACKEND_FEATURES", &features);
}

Result<void> vhost_set_fork_from_owner(int fd, uint8_t mode) {
  ForkArgument argument{0};
  argument.mode = mode;
  return control(fd, VHOST_SET_FORK_FROM_OWNER, "VHOST_SET_FORK_FROM_OWNER", &argument);
}

Result<uint8_t> vhost_get_fork_from_owner(int fd) {
  ForkArgument argument{0};
  auto done = control(fd, VHOST_GET_FORK_FROM_OWNER, "VHOST_GET_FORK_FROM_OWNER", &argument);
  if (!done.ok()) return done.error();
  return argument.mode;
}

Result<uint32_t> vhost_new_worker(int fd) {
  vhost_worker_state state{0};
  SignalsBlocked blocked;
  if (auto done = control(fd, VHOST_NEW_WORKER, "VHOST_NEW_WORKER", &state); !done.ok()) return done.error();
  return state.worker_id;
}

Result<void> vhost_free_worker(int fd, uint32_t worker_id) {
  vhost_worker_state state{worker_id};
  return control(fd, VHOST_FREE_WORKER, "VHOST_FREE_WORKER", &state);
}

Result<void> vhost_attach_vring_worker(int fd, uint32_t index, uint32_t worker_id) {
  vhost_vring_worker ring{index, worker_id};
  return control(fd, VHOST_ATTACH_VRING_WORKER, "VHOST_ATTACH_VRING_WORKER", &ring);
}

Result<uint32_t> vhost_get_vring_worker(int fd, uint32_t index) {
  vhost_vring_worker ring{index, 0};
  auto done = control(fd, VHOST_GET_VRING_WORKER, "VHOST_GET_VRING_WORKER", &ring);
  if (!done.ok()) return done.error();
  return ring.worker_id;
}

// A signal that is pending makes copy_process() (kernel/fork.c) refuse to start the worker, which vhost reports as
// ENOMEM.
Result<void> vhost_set_owner(int fd) {
  SignalsBlocked blocked;
  return control(fd, VHOST_SET_OWNER, "VHOST_SET_OWNER", nullptr);
}

Result<void> vhost_reset_owner(int fd) { return control(fd, VHOST_RESET_OWNER, "VHOST_RESET_OWNER", nullptr); }

Result<void> vhost_set_mem_table(int fd, const std::vector<vhost_memory_region>& regions) {
  std::vector<uint8_t> table(sizeof(vhost_memory) + regions.size() * sizeof(vhost_memory_region));
  vhost_memory header{static_cast<uint32_t>(regions.size()), 0};
  std::memcpy(table.data(), &header, sizeof header);
  if (!regions.empty()) std::memcpy(table.data() + sizeof header, regions.data(), table.size() - sizeof header);
  return control(fd, VHOST_SET_MEM_TABLE, "VHOST_SET_MEM_TABLE", table.data());
}

Result<void> vhost_set_log_base(int fd, uint64_t address) {
  return control(fd, VHOST_SET_LOG_BASE, "VHOST_SET_LOG_BASE", &address);
}

Result<void> vhost_set_log_fd(int fd, int event) { return control(fd, VHOST_SET_LOG_FD, "VHOST_SET_LOG_FD", &event); }

Result<void> vhost_set_vring_num(int fd, uint32_t index, uint32_t num) {
  vhost_vring_state state{index, num};
  return control(fd, VHOST_SET_VRING_NUM, "VHOST_SET_VRING_NUM", &state);
}

Result<void> vhost_set_vring_addr(int fd, const vhost_vring_addr& address) {
  return control(fd, VHOST_SET_VRING_ADDR, "VHOST_SET_VRING_ADDR", &address);
}

Result<void> vhost_set_vring_base(int fd, uint32_t index, uint32_t base) {
  vhost_vring_state state{index, base};
  return control(fd, VHOST_SET_VRING_BASE, "VHOST_SET_VRING_BASE", &state);
}

Result<uint32_t> vhost_get_vring_base(int fd, uint32_t index) {
  vhost_vring_state state{index, 0};
  auto done = control(fd, VHOST_GET_VRING_BASE, "VHOST_GET_VRING_BASE", &state);
  if (!done.ok()) return done.error();
  return state.num;
}

Result<void> vhost_set_vring_endian(int fd, uint32_t index, uint32_t endian) {
  vhost_vring_state state{index, endian};
  return control(fd, VHOST_SET_VRING_ENDIAN, "VHOST_SET_VRING_ENDIAN", &state);
}

Result<uint32_t> vhost_get_vring_endian(int fd, uint32_t index) {
  vhost_vring_state state{index, 0};
  auto done = control(fd, VHOST_GET_VRING_ENDIAN, "VHOST_GET_VRING_ENDIAN", &state);
  if (!done.ok()) return done.error();
  return state.num;
}

Result<void> vhost_set_vring_busyloop_timeout(int fd, uint32_t index, uint32_t microseconds) {
  vhost_vring_state state{index, microseconds};
  return control(fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, "VHOST_SET_VRING_BUSYLOOP_TIMEOUT", &state);
}

Result<uint32_t> vhost_get_vring_busyloop_timeout(int fd, uint32_t index) {
  vhost_vring_state state{index, 0};
  auto done = control(fd, VHOST_GET_VRING_BUSYLOOP_TIMEOUT, "VHOST_GET_VRING_BUSYLOOP_TIMEOUT", &state);
  if (!done.ok()) return done.error();
  return state.num;
}

Result<void> vhost_set_vring_kick(int fd, uint32_t index, int event) {
  vhost_vring_file file{index, event};
  return control(fd, VHOST_SET_VRING_KICK, "VHOST_SET_VRING_KICK", &file);
}

Result<void> vhost_set_vring_call(int fd, uint32_t index, int event) {
  vhost_vring_file file{index, event};
  return control(fd, VHOST_SET_VRING_CALL, "VHOST_SET_VRING_CALL", &file);
}

Result<void> vhost_set_vring_err(int fd, uint32_t index, int event) {
  vhost_vring_file file{index, event};
  return control(fd, VHOST_SET_VRING_ERR, "VHOST_SET_VRING_ERR", &file);
}

Result<void> vhost_net_set_backend(int fd, uint32_t index, int backend) {
  vhost_vring_file file{index, backend};
  return control(fd, VHOST_NET_SET_BACKEND, "VHOST_NET_SET_BACKEND", &file);
}

// The kernel takes and gives a message whole or not at all, and neither call waits for anything that a signal ends.

Result<void> vhost_send_iotlb(int fd, const vhost_iotlb_msg& message) {
  vhost_msg_v2 whole{};
  whole.type = VHOST_IOTLB_MSG_V2;
  whole.iotlb = message;
  if (::write(fd, &whole, sizeof whole) < 0) return system_error("write");
  return {};
}

Result<std::optional<vhost_iotlb_msg>> vhost_receive_iotlb(int fd) {
  // Only poll tells without waiting on an fd that another opened as a blocking one.
  pollfd readable{fd, POLLIN, 0};
  if (::poll(&readable, 1, 0) < 0) return system_error("poll");
  if (!(readable.revents & POLLIN)) return std::optional<vhost_iotlb_msg>();
  vhost_msg_v2 whole{};
  if (::read(fd, &whole, sizeof whole) < 0) return system_error("read");
  return std::optional(whole.iotlb);
}

}  // namespace vhostnet
