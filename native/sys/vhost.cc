#include "sys/vhost.h"

#include <cstring>

#include "sys/ioctl.h"

namespace vhostnet {

using namespace uapi;

Result<uint64_t> vhost_get_features(int fd) {
  uint64_t features = 0;
  if (auto done = control(fd, VHOST_GET_FEATURES, "VHOST_GET_FEATURES", &features); !done.ok()) return done.error();
  return features;
}

Result<void> vhost_set_features(int fd, uint64_t features) {
  return control(fd, VHOST_SET_FEATURES, "VHOST_SET_FEATURES", &features);
}

Result<uint64_t> vhost_get_backend_features(int fd) {
  uint64_t features = 0;
  auto done = control(fd, VHOST_GET_BACKEND_FEATURES, "VHOST_GET_BACKEND_FEATURES", &features);
  if (!done.ok()) return done.error();
  return features;
}

Result<void> vhost_set_owner(int fd) { return control(fd, VHOST_SET_OWNER, "VHOST_SET_OWNER", nullptr); }

Result<void> vhost_reset_owner(int fd) { return control(fd, VHOST_RESET_OWNER, "VHOST_RESET_OWNER", nullptr); }

Result<void> vhost_set_mem_table(int fd, const std::vector<vhost_memory_region>& regions) {
  std::vector<uint8_t> table(sizeof(vhost_memory) + regions.size() * sizeof(vhost_memory_region));
  vhost_memory header{static_cast<uint32_t>(regions.size()), 0};
  std::memcpy(table.data(), &header, sizeof header);
  if (!regions.empty()) std::memcpy(table.data() + sizeof header, regions.data(), table.size() - sizeof header);
  return control(fd, VHOST_SET_MEM_TABLE, "VHOST_SET_MEM_TABLE", table.data());
}

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

}  // namespace vhostnet
