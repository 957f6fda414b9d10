#include "sys/eventfd.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace vhostnet {

// The kernel reads and writes the 8 bytes of an eventfd whole or not at all (fs/eventfd.c), and a non-blocking one is
// not interrupted.

Result<UniqueFd> eventfd_create() {
  int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return system_error("eventfd");
  return UniqueFd(fd);
}

Result<void> eventfd_write(int fd, uint64_t value) {
  if (::write(fd, &value, sizeof value) < 0) return system_error("write");
  return {};
}

Result<uint64_t> eventfd_read(int fd) {
  uint64_t value = 0;
  if (::read(fd, &value, sizeof value) < 0 && errno != EAGAIN) return system_error("read");
  return value;
}

}  // namespace vhostnet
