#include "sys/netlink.h"

#include <linux/netlink.h>
#include <sys/socket.h>

namespace vhostnet {

Result<UniqueFd> netlink_socket(int protocol, uint32_t groups) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (!fd.valid()) return system_error("socket");
  int one = 1;
  if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one) < 0) return system_error("setsockopt");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return system_error("bind");
  return fd;
}

Result<void> netlink_send(int fd, const uint8_t* data, size_t size) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do sent = ::sendto(fd, data, size, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return system_error("sendto");
  return {};
}

Result<size_t> netlink_receive(int fd, uint8_t* data, size_t size) {
  ssize_t length;
  do length = ::recv(fd, data, size, MSG_TRUNC);
  while (length < 0 && errno == EINTR);
  if (length < 0 && errno == EAGAIN) return size_t{0};
  if (length < 0) return system_error("recv");
  if (static_cast<size_t>(length) > size) return Error{EMSGSIZE, "recv", {}};
  return static_cast<size_t>(length);
}

}  // namespace vhostnet
