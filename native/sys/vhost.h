// The ioctls of /dev/vhost-net, one function each (drivers/vhost/vhost.c, drivers/vhost/net.c).
//
// An fd has two rings: index 0 receives, 1 transmits; a ring index of 2 or more answers ENOBUFS. "Owned" means that
// VHOST_SET_OWNER was called on the fd by this process; calls that need it answer EPERM otherwise.
#pragma once

#include <cstdint>
#include <vector>

#include "sys/result.h"
#include "sys/vhost_uapi.h"

namespace vhostnet {

// The low 64 feature bits this kernel's vhost-net knows. Needs no owner.
Result<uint64_t> vhost_get_features(int fd);

// EOPNOTSUPP: a bit outside vhost_get_features. EFAULT: LOG_ALL and a log that does not cover the memory table.
Result<void> vhost_set_features(int fd, uint64_t features);

// The VHOST_BACKEND_F_* bits. Needs no owner.
Result<uint64_t> vhost_get_backend_features(int fd);

// Binds the fd to this process's memory and starts its worker. EBUSY: owned already. ENOMEM (any failure, from 6.4) or
// the real errno (6.1): no worker could be made.
Result<void> vhost_set_owner(int fd);

// Stops both rings, forgets everything, and leaves the fd without an owner.
Result<void> vhost_reset_owner(int fd);

// Replaces the memory table; legal while rings run. E2BIG: more regions than the vhost module's max_mem_regions.
// EFAULT: a region of size 0, or one that wraps.
Result<void> vhost_set_mem_table(int fd, const std::vector<uapi::vhost_memory_region>& regions);

// EBUSY: a backend is attached. EINVAL: not a power of two in 1..32768.
Result<void> vhost_set_vring_num(int fd, uint32_t index, uint32_t num);

// Host virtual addresses of the three ring parts. EINVAL: avail not 2-aligned or used not 4-aligned. Not checked by the
// kernel: the descriptor table's alignment, and that the parts lie in the memory table.
Result<void> vhost_set_vring_addr(int fd, const uapi::vhost_vring_addr& address);

// The next available index that the worker takes. EBUSY: a backend is attached. EINVAL: over 65535.
Result<void> vhost_set_vring_base(int fd, uint32_t index, uint32_t base);

// Exact only once the backend is detached.
Result<uint32_t> vhost_get_vring_base(int fd, uint32_t index);

// Event fds; -1 removes. EBADF: closed. EINVAL: not an eventfd.
Result<void> vhost_set_vring_kick(int fd, uint32_t index, int event);
Result<void> vhost_set_vring_call(int fd, uint32_t index, int event);
Result<void> vhost_set_vring_err(int fd, uint32_t index, int event);

// Attaches a tap queue (the ring is live from here) or, with -1, detaches it and waits until the worker has let go.
// ENOTSOCK: not a tun, tap or packet socket, or closed. EINVAL: TUNSETIFF was not done. EFAULT: no memory table, or
// ring addresses it cannot reach.
Result<void> vhost_net_set_backend(int fd, uint32_t index, int backend);

}  // namespace vhostnet
