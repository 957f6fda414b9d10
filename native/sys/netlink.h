// A netlink socket's system calls; the messages themselves are written and read in TypeScript.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

// socket(AF_NETLINK, SOCK_RAW, protocol), bound to a kernel-chosen port and to the multicast groups in the mask, with
// extended acknowledgements (NETLINK_EXT_ACK) asked for.
Result<UniqueFd> netlink_socket(int protocol, uint32_t groups);

// Sends one or more messages to the kernel, which has handled them when this returns.
Result<void> netlink_send(int fd, const uint8_t* data, size_t size);

// The next datagram, of at most size bytes; 0 where none is queued. EMSGSIZE: it was longer, and is lost. ENOBUFS: the
// socket's queue overflowed and multicast messages were lost.
Result<size_t> netlink_receive(int fd, uint8_t* data, size_t size);

}  // namespace vhostnet
