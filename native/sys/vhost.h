// The ioctls of /dev/vhost-net, one function each (drivers/vhost/vhost.c, drivers/vhost/net.c).
//
// An fd has two rings: index 0 receives, 1 transmits; a ring index of 2 or more answers ENOBUFS. "Owned" means that
// VHOST_SET_OWNER was called on the fd by this process; calls that need it answer EPERM otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "sys/result.h"
#include "sys/vhost_uapi.h"

namespace vhostnet {

// The low 64 feature bits this kernel's vhost-net knows. Needs no owner.
Result<uint64_t> vhost_get_features(int fd);

// EOPNOTSUPP: a bit outside vhost_get_features. EFAULT: LOG_ALL and a log that does not cover the memory table.
Result<void> vhost_set_features(int fd, uint64_t features);

// All 128 feature bits, the lower word first; since Linux 6.17. Needs no owner where it exists. Kernels without it
// answer as to any number they do not know: EPERM without an owner, and ENOBUFS with one, because they read the count
// of 2 words as the index of a ring.
using VhostFeatures = std::array<uint64_t, 2>;
Result<VhostFeatures> vhost_get_features_array(int fd);

// As vhost_set_features, which clears the upper word. EOPNOTSUPP: a bit outside vhost_get_features_array.
Result<void> vhost_set_features_array(int fd, const VhostFeatures& features);

// The VHOST_BACKEND_F_* bits. Needs no owner.
Result<uint64_t> vhost_get_backend_features(int fd);

// Needs no owner; since Linux 4.19. EOPNOTSUPP: a bit outside vhost_get_backend_features.
Result<void> vhost_set_backend_features(int fd, uint64_t features);

// Whether the worker is a thread of the owner (1) or of the kernel (0); since Linux 6.17 and Debian's 6.12.48. To be
// set before the owner; vhost_reset_owner puts the vhost module's default back. EBUSY: owned. EINVAL: over 1. EPERM
// without an owner, ENOTTY or ENOBUFS with one: a kernel that does not have it.
Result<void> vhost_set_fork_from_owner(int fd, uint8_t mode);
Result<uint8_t> vhost_get_fork_from_owner(int fd);

// Workers besides the first one, and which of them serves a ring; since Linux 6.5. No vhost-net has these calls, up to
// 7.3: EPERM without an owner; with one ENOTTY, or ENOBUFS where the kernel reads an id of 2 or more as a ring's index.
Result<uint32_t> vhost_new_worker(int fd);
Result<void> vhost_free_worker(int fd, uint32_t worker_id);
Result<void> vhost_attach_vring_worker(int fd, uint32_t index, uint32_t worker_id);
Result<uint32_t> vhost_get_vring_worker(int fd, uint32_t index);

// Binds the fd to this process's memory and starts its worker. EBUSY: owned already. ENOMEM (any failure, from 6.4) or
// the real errno (6.1): no worker could be made.
Result<void> vhost_set_owner(int fd);

// Stops both rings, forgets everything, and leaves the fd without an owner.
Result<void> vhost_reset_owner(int fd);

// Replaces the memory table; legal while rings run. E2BIG: more regions than the vhost module's max_mem_regions.
// EFAULT: a region of size 0, or one that wraps.
Result<void> vhost_set_mem_table(int fd, const std::vector<uapi::vhost_memory_region>& regions);

// The dirty bitmap of VHOST_F_LOG_ALL: one bit, set atomically, for each 4096 bytes of guest memory from address 0 on.
// It must be mapped up to the highest address of the memory table for as long as the fd has it, which the kernel does
// not check. EFAULT: a ring is live, and the bitmap would end outside of user space; another ring may have taken it.
Result<void> vhost_set_log_base(int fd, uint64_t address);

// An eventfd to be signalled when the bitmap is written to; -1 removes. EBADF: closed. EINVAL: not an eventfd.
Result<void> vhost_set_log_fd(int fd, int event);

// EBUSY: a backend is attached. EINVAL: not a power of two in 1..32768.
Result<void> vhost_set_vring_num(int fd, uint32_t index, uint32_t num);

// Host virtual addresses of the three ring parts. EINVAL: avail not 2-aligned or used not 4-aligned. Not checked by the
// kernel: the descriptor table's alignment, and that the parts lie in the memory table.
Result<void> vhost_set_vring_addr(int fd, const uapi::vhost_vring_addr& address);

// The next available index that the worker takes. EBUSY: a backend is attached. EINVAL: over 65535.
Result<void> vhost_set_vring_base(int fd, uint32_t index, uint32_t base);

// Exact only once the backend is detached.
Result<uint32_t> vhost_get_vring_base(int fd, uint32_t index);

// Byte order of a legacy ring: 0 little, 1 big; since Linux 4.2. ENOTTY: no CONFIG_VHOST_CROSS_ENDIAN_LEGACY, which is
// how distributions build it. EBUSY (set): a backend is attached. EINVAL (set): over 1.
Result<void> vhost_set_vring_endian(int fd, uint32_t index, uint32_t endian);
Result<uint32_t> vhost_get_vring_endian(int fd, uint32_t index);

// Microseconds for which the worker polls before it sleeps; 0 (as made) for none. Since Linux 4.6; any value is taken.
Result<void> vhost_set_vring_busyloop_timeout(int fd, uint32_t index, uint32_t microseconds);
Result<uint32_t> vhost_get_vring_busyloop_timeout(int fd, uint32_t index);

// Event fds; -1 removes. EBADF: closed. EINVAL: not an eventfd.
Result<void> vhost_set_vring_kick(int fd, uint32_t index, int event);
Result<void> vhost_set_vring_call(int fd, uint32_t index, int event);
Result<void> vhost_set_vring_err(int fd, uint32_t index, int event);

// Attaches a tap queue (the ring is live from here) or, with -1, detaches it and waits until the worker has let go.
// ENOTSOCK: not a tun, tap or packet socket, or closed. EINVAL: TUNSETIFF was not done. EFAULT: no memory table, or
// ring addresses it cannot reach.
Result<void> vhost_net_set_backend(int fd, uint32_t index, int backend);

// write(2) of one VHOST_IOTLB_MSG_V2; since Linux 4.19. Needs no owner, but VIRTIO_F_ACCESS_PLATFORM in the features.
// EINVAL: an update of size 0; an invalidation of it is EFAULT in Linux 7.3 and takes back more than nothing before.
// EFAULT: all else: no IOTLB, an unknown type, an address outside of user space.
Result<void> vhost_send_iotlb(int fd, const uapi::vhost_iotlb_msg& message);

// read(2) of the next message, of either version; none where none is queued, be the fd blocking or not.
Result<std::optional<uapi::vhost_iotlb_msg>> vhost_receive_iotlb(int fd);

}  // namespace vhostnet
