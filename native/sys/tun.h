// The ioctls of /dev/net/tun, one function each (drivers/net/tun.c). An fd is one queue of a tap.
//
// TUNSETIFF comes first; every other call that names a device answers EBADFD before it.
#pragma once

#include <cstdint>
#include <string>

#include "sys/result.h"

namespace vhostnet {

struct TunInterface {
  std::string name;
  uint16_t flags;
};

// The IFF_* flags that this kernel's TUNSETIFF knows. It ignores others in silence, so this is the probe.
Result<uint32_t> tun_get_features(int fd);

// Creates the device, or attaches to it where it exists; the name the kernel chose ("tap%d" is a pattern). EPERM: no
// CAP_NET_ADMIN and not the owner. EBUSY: attached elsewhere, or IFF_TUN_EXCL and it exists. EINVAL: another type, or
// IFF_MULTI_QUEUE differs. E2BIG: a 257th queue. EEXIST: this fd has a device already.
Result<TunInterface> tun_set_iff(int fd, const std::string& name, uint16_t flags);

// The device of this queue, as it is now.
Result<TunInterface> tun_get_iff(int fd);

// IFF_ATTACH_QUEUE or IFF_DETACH_QUEUE. EINVAL: single queue, or already so. Detaching drops what the queue holds.
Result<void> tun_set_queue(int fd, uint16_t flags);

// TUN_F_* that the reader accepts. EINVAL: a bit this kernel lacks, or one without those it needs.
Result<void> tun_set_offload(int fd, uint32_t offload);

// Bytes of virtio header in front of each frame, for all queues of the device. EINVAL: under 10.
Result<void> tun_set_vnet_hdr_sz(int fd, int32_t size);
Result<int32_t> tun_get_vnet_hdr_sz(int fd);

// Byte order of that header: true = little-endian, as virtio 1 wants it.
Result<void> tun_set_vnet_le(int fd, bool little_endian);
Result<bool> tun_get_vnet_le(int fd);

// Bytes of frames in flight towards the network; INT_MAX (the default) lets vhost batch. EINVAL: not positive.
Result<void> tun_set_sndbuf(int fd, int32_t bytes);
Result<int32_t> tun_get_sndbuf(int fd);

// Whether the device outlives its last queue.
Result<void> tun_set_persist(int fd, bool persist);

// The device's carrier.
Result<void> tun_set_carrier(int fd, bool carrier);

}  // namespace vhostnet
