// The ioctls of /dev/net/tun, one function each (drivers/net/tun.c). An fd is one queue of a tap.
//
// TUNSETIFF comes first; every other call that names a device answers EBADFD before it.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <string>

#include "sys/result.h"
#include "sys/unique_fd.h"

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

// The index of the device that tun_set_iff is to create, before it; since Linux 3.12. EINVAL: over INT_MAX. EPERM: the
// fd has a device. One that is taken is refused by tun_set_iff, with EBUSY.
Result<void> tun_set_ifindex(int fd, uint32_t ifindex);

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

// Byte order for a legacy guest of the other endianness; since Linux 4.2. EINVAL: no CONFIG_TUN_VNET_CROSS_LE, which is
// how distributions build it.
Result<void> tun_set_vnet_be(int fd, bool big_endian);
Result<bool> tun_get_vnet_be(int fd);

// Bytes of frames in flight towards the network; INT_MAX (the default) lets vhost batch. EINVAL: not positive.
Result<void> tun_set_sndbuf(int fd, int32_t bytes);
Result<int32_t> tun_get_sndbuf(int fd);

// Whether the device outlives its last queue.
Result<void> tun_set_persist(int fd, bool persist);

// Who may attach without CAP_NET_ADMIN: a user and a group of the caller's user namespace. EINVAL: an id that the
// namespace does not map, and -1, so that it cannot be taken back.
Result<void> tun_set_owner(int fd, uint32_t uid);
Result<void> tun_set_group(int fd, uint32_t gid);

// The device's carrier; since Linux 5.0.
Result<void> tun_set_carrier(int fd, bool carrier);

// The link type, ARPHRD_*. EBUSY: the device is up.
Result<void> tun_set_link(int fd, int32_t type);

// NETIF_MSG_* of linux/netdevice.h that the device's driver writes to the kernel's log; what it says is sparse.
Result<void> tun_set_debug(int fd, uint32_t messages);

// Does nothing but write to that log; tun_set_offload is what checksums go by.
Result<void> tun_set_nocsum(int fd, bool disabled);

// Which destination addresses the reader gets: `addresses` has six bytes for each; none lifts the filter. The first 8
// match exactly, further multicast addresses by a hash. The number that match exactly, 0 where the filter is off: so it
// is after a unicast address beyond the eighth. TUN_FLT_ALLMULTI lets all multicast through. EINVAL: not a tap.
Result<int> tun_set_tx_filter(int fd, uint16_t flags, std::span<const uint8_t> addresses);

// Classic BPF on frames to the reader: how many bytes of each to keep, 0 to drop it; for the queues a tap has
// now, and not for one that comes with IFF_NO_PI, whose number is IFF_NOFILTER's too. The kernel reads `program` again
// whenever tun_set_queue attaches a queue, so it must outlive the filter; the kernel then reports success but leaves
// that queue detached (tun_attach). EINVAL: not a tap, no valid program, or more than 4096 instructions. EFAULT:
// unreadable.
Result<void> tun_attach_filter(int fd, std::span<const sock_filter> program);
Result<void> tun_detach_filter(int fd);

// How many instructions the last filter has, be it detached or refused since; since Linux 3.12. What else the kernel
// answers is the address at which its setter had them.
Result<uint16_t> tun_get_filter(int fd);

// eBPF programs of type SOCKET_FILTER by fd, of which the kernel takes a reference; -1 removes. Since Linux 4.16.
// Steering chooses the queue, modulo their number; the filter says how many bytes to keep. EBADF: closed. EINVAL: not a
// program, or of another type.
Result<void> tun_set_steering_ebpf(int fd, int program);
Result<void> tun_set_filter_ebpf(int fd, int program);

// The network namespace in which the device is now, close-on-exec; since Linux 5.2. EPERM: no CAP_NET_ADMIN there.
Result<UniqueFd> tun_get_dev_net_ns(int fd);

}  // namespace vhostnet
