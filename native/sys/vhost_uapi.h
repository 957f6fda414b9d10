// The vhost ioctls of <linux/vhost.h>, in our own definitions: Debian 12's headers are those of Linux 6.1.
#pragma once

#include <linux/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace vhostnet::uapi {

struct vhost_vring_state {
  uint32_t index;
  uint32_t num;
};
static_assert(sizeof(vhost_vring_state) == 8);

struct vhost_vring_file {
  uint32_t index;
  int32_t fd;
};
static_assert(sizeof(vhost_vring_file) == 8);

struct vhost_vring_addr {
  uint32_t index;
  uint32_t flags;
  uint64_t desc_user_addr;
  uint64_t used_user_addr;
  uint64_t avail_user_addr;
  uint64_t log_guest_addr;
};
static_assert(sizeof(vhost_vring_addr) == 40);
static_assert(offsetof(vhost_vring_addr, used_user_addr) == 16);

struct vhost_memory_region {
  uint64_t guest_phys_addr;
  uint64_t memory_size;
  uint64_t userspace_addr;
  uint64_t flags_padding;
};
static_assert(sizeof(vhost_memory_region) == 32);

// struct vhost_memory is this, followed by nregions times vhost_memory_region.
struct vhost_memory {
  uint32_t nregions;
  uint32_t padding;
};
static_assert(sizeof(vhost_memory) == 8);

inline constexpr unsigned long VHOST_GET_FEATURES = _IOR(0xAF, 0x00, uint64_t);
inline constexpr unsigned long VHOST_SET_FEATURES = _IOW(0xAF, 0x00, uint64_t);
inline constexpr unsigned long VHOST_SET_OWNER = _IO(0xAF, 0x01);
inline constexpr unsigned long VHOST_RESET_OWNER = _IO(0xAF, 0x02);
inline constexpr unsigned long VHOST_SET_MEM_TABLE = _IOW(0xAF, 0x03, vhost_memory);
inline constexpr unsigned long VHOST_SET_VRING_NUM = _IOW(0xAF, 0x10, vhost_vring_state);
inline constexpr unsigned long VHOST_SET_VRING_ADDR = _IOW(0xAF, 0x11, vhost_vring_addr);
inline constexpr unsigned long VHOST_SET_VRING_BASE = _IOW(0xAF, 0x12, vhost_vring_state);
inline constexpr unsigned long VHOST_GET_VRING_BASE = _IOWR(0xAF, 0x12, vhost_vring_state);
inline constexpr unsigned long VHOST_SET_VRING_KICK = _IOW(0xAF, 0x20, vhost_vring_file);
inline constexpr unsigned long VHOST_SET_VRING_CALL = _IOW(0xAF, 0x21, vhost_vring_file);
inline constexpr unsigned long VHOST_SET_VRING_ERR = _IOW(0xAF, 0x22, vhost_vring_file);
inline constexpr unsigned long VHOST_GET_BACKEND_FEATURES = _IOR(0xAF, 0x26, uint64_t);
inline constexpr unsigned long VHOST_NET_SET_BACKEND = _IOW(0xAF, 0x30, vhost_vring_file);

static_assert(VHOST_GET_FEATURES == 0x8008af00);
static_assert(VHOST_SET_FEATURES == 0x4008af00);
static_assert(VHOST_SET_OWNER == 0xaf01);
static_assert(VHOST_RESET_OWNER == 0xaf02);
static_assert(VHOST_SET_MEM_TABLE == 0x4008af03);
static_assert(VHOST_SET_VRING_NUM == 0x4008af10);
static_assert(VHOST_SET_VRING_ADDR == 0x4028af11);
static_assert(VHOST_SET_VRING_BASE == 0x4008af12);
static_assert(VHOST_GET_VRING_BASE == 0xc008af12);
static_assert(VHOST_SET_VRING_KICK == 0x4008af20);
static_assert(VHOST_SET_VRING_CALL == 0x4008af21);
static_assert(VHOST_SET_VRING_ERR == 0x4008af22);
static_assert(VHOST_GET_BACKEND_FEATURES == 0x8008af26);
static_assert(VHOST_NET_SET_BACKEND == 0x4008af30);

}  // namespace vhostnet::uapi
