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

struct vhost_worker_state {
  uint32_t worker_id;
};
static_assert(sizeof(vhost_worker_state) == 4);

struct vhost_vring_worker {
  uint32_t index;
  uint32_t worker_id;
};
static_assert(sizeof(vhost_vring_worker) == 8);

// struct vhost_memory is this, followed by nregions times vhost_memory_region.
struct vhost_memory {
  uint32_t nregions;
  uint32_t padding;
};
static_assert(sizeof(vhost_memory) == 8);

// VHOST_{GET,SET}_FEATURES_ARRAY take this, followed by count times uint64_t; since Linux 6.17.
struct vhost_features_array {
  uint64_t count;
};
static_assert(sizeof(vhost_features_array) == 8);

struct vhost_iotlb_msg {
  uint64_t iova;
  uint64_t size;
  uint64_t uaddr;
  uint8_t perm;
  uint8_t type;
};
static_assert(sizeof(vhost_iotlb_msg) == 32);
static_assert(offsetof(vhost_iotlb_msg, perm) == 24 && offsetof(vhost_iotlb_msg, type) == 25);

// What is read from and written to the fd. struct vhost_msg, the first version, has padding where this has asid.
struct vhost_msg_v2 {
  uint32_t type;
  uint32_t asid;
  union {
    vhost_iotlb_msg iotlb;
    uint8_t padding[64];
  };
};
static_assert(sizeof(vhost_msg_v2) == 72);
static_assert(offsetof(vhost_msg_v2, iotlb) == 8);

inline constexpr uint32_t VHOST_IOTLB_MSG = 1;
inline constexpr uint32_t VHOST_IOTLB_MSG_V2 = 2;

inline constexpr uint8_t VHOST_IOTLB_UPDATE = 2;

inline constexpr unsigned long VHOST_GET_FEATURES = _IOR(0xAF, 0x00, uint64_t);
inline constexpr unsigned long VHOST_SET_FEATURES = _IOW(0xAF, 0x00, uint64_t);
inline constexpr unsigned long VHOST_SET_OWNER = _IO(0xAF, 0x01);
inline constexpr unsigned long VHOST_RESET_OWNER = _IO(0xAF, 0x02);
inline constexpr unsigned long VHOST_SET_MEM_TABLE = _IOW(0xAF, 0x03, vhost_memory);
inline constexpr unsigned long VHOST_SET_LOG_BASE = _IOW(0xAF, 0x04, uint64_t);
inline constexpr unsigned long VHOST_SET_LOG_FD = _IOW(0xAF, 0x07, int);
inline constexpr unsigned long VHOST_NEW_WORKER = _IOR(0xAF, 0x08, vhost_worker_state);
inline constexpr unsigned long VHOST_FREE_WORKER = _IOW(0xAF, 0x09, vhost_worker_state);
inline constexpr unsigned long VHOST_SET_VRING_NUM = _IOW(0xAF, 0x10, vhost_vring_state);
inline constexpr unsigned long VHOST_SET_VRING_ADDR = _IOW(0xAF, 0x11, vhost_vring_addr);
inline constexpr unsigned long VHOST_SET_VRING_BASE = _IOW(0xAF, 0x12, vhost_vring_state);
inline constexpr unsigned long VHOST_GET_VRING_BASE = _IOWR(0xAF, 0x12, vhost_vring_state);
inline constexpr unsigned long VHOST_SET_VRING_ENDIAN = _IOW(0xAF, 0x13, vhost_vring_state);
inline constexpr unsigned long VHOST_GET_VRING_ENDIAN = _IOW(0xAF, 0x14, vhost_vring_state);
inline constexpr unsigned long VHOST_ATTACH_VRING_WORKER = _IOW(0xAF, 0x15, vhost_vring_worker);
inline constexpr unsigned long VHOST_GET_VRING_WORKER = _IOWR(0xAF, 0x16, vhost_vring_worker);
inline constexpr unsigned long VHOST_SET_VRING_KICK = _IOW(0xAF, 0x20, vhost_vring_file);
inline constexpr unsigned long VHOST_SET_VRING_CALL = _IOW(0xAF, 0x21, vhost_vring_file);
inline constexpr unsigned long VHOST_SET_VRING_ERR = _IOW(0xAF, 0x22, vhost_vring_file);
inline constexpr unsigned long VHOST_SET_VRING_BUSYLOOP_TIMEOUT = _IOW(0xAF, 0x23, vhost_vring_state);
inline constexpr unsigned long VHOST_GET_VRING_BUSYLOOP_TIMEOUT = _IOW(0xAF, 0x24, vhost_vring_state);
inline constexpr unsigned long VHOST_SET_BACKEND_FEATURES = _IOW(0xAF, 0x25, uint64_t);
inline constexpr unsigned long VHOST_GET_BACKEND_FEATURES = _IOR(0xAF, 0x26, uint64_t);
inline constexpr unsigned long VHOST_NET_SET_BACKEND = _IOW(0xAF, 0x30, vhost_vring_file);
inline constexpr unsigned long VHOST_GET_FEATURES_ARRAY = _IOR(0xAF, 0x83, vhost_features_array);
inline constexpr unsigned long VHOST_SET_FEATURES_ARRAY = _IOW(0xAF, 0x83, vhost_features_array);
inline constexpr unsigned long VHOST_SET_FORK_FROM_OWNER = _IOW(0xAF, 0x84, uint8_t);
inline constexpr unsigned long VHOST_GET_FORK_FROM_OWNER = _IOR(0xAF, 0x85, uint8_t);

static_assert(VHOST_GET_FEATURES == 0x8008af00);
static_assert(VHOST_SET_FEATURES == 0x4008af00);
static_assert(VHOST_SET_OWNER == 0xaf01);
static_assert(VHOST_RESET_OWNER == 0xaf02);
static_assert(VHOST_SET_MEM_TABLE == 0x4008af03);
static_assert(VHOST_SET_LOG_BASE == 0x4008af04);
static_assert(VHOST_SET_LOG_FD == 0x4004af07);
static_assert(VHOST_NEW_WORKER == 0x8004af08);
static_assert(VHOST_FREE_WORKER == 0x4004af09);
static_assert(VHOST_SET_VRING_NUM == 0x4008af10);
static_assert(VHOST_SET_VRING_ADDR == 0x4028af11);
static_assert(VHOST_SET_VRING_BASE == 0x4008af12);
static_assert(VHOST_GET_VRING_BASE == 0xc008af12);
static_assert(VHOST_SET_VRING_ENDIAN == 0x4008af13);
static_assert(VHOST_GET_VRING_ENDIAN == 0x4008af14);
static_assert(VHOST_ATTACH_VRING_WORKER == 0x4008af15);
static_assert(VHOST_GET_VRING_WORKER == 0xc008af16);
static_assert(VHOST_SET_VRING_KICK == 0x4008af20);
static_assert(VHOST_SET_VRING_CALL == 0x4008af21);
static_assert(VHOST_SET_VRING_ERR == 0x4008af22);
static_assert(VHOST_SET_VRING_BUSYLOOP_TIMEOUT == 0x4008af23);
static_assert(VHOST_GET_VRING_BUSYLOOP_TIMEOUT == 0x4008af24);
static_assert(VHOST_SET_BACKEND_FEATURES == 0x4008af25);
static_assert(VHOST_GET_BACKEND_FEATURES == 0x8008af26);
static_assert(VHOST_NET_SET_BACKEND == 0x4008af30);
static_assert(VHOST_GET_FEATURES_ARRAY == 0x8008af83);
static_assert(VHOST_SET_FEATURES_ARRAY == 0x4008af83);
static_assert(VHOST_SET_FORK_FROM_OWNER == 0x4001af84);
static_assert(VHOST_GET_FORK_FROM_OWNER == 0x8001af85);

}  // namespace vhostnet::uapi
