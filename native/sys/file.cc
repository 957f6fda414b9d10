#include "sys/file.h"

#include <fcntl.h>

namespace vhostnet {

Result<UniqueFd> open_device(const char* path) {
  int fd;
  do fd = ::open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return system_error("open");
  return UniqueFd(fd);
}

Result<UniqueFd> adopt(int fd) {
  int flags = ::fcntl(fd, F_GETFD);
  if (flags < 0 || ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) return system_error("fcntl");
  return UniqueFd(fd);
}

Result<UniqueFd> duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return system_error("fcntl");
  return copy;
}

}  // namespace vhostnet
