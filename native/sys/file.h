// Opening and adopting file descriptors; all of them close-on-exec, or a child of this process would keep rings alive.
#pragma once

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

// open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK). ENOENT: no such node; EACCES: permission; ENXIO, ENODEV: module absent.
Result<UniqueFd> open_device(const char* path);

// Takes over an fd that somebody else opened, and sets FD_CLOEXEC on it. EBADF: not open.
Result<UniqueFd> adopt(int fd);

// fcntl(fd, F_DUPFD_CLOEXEC): another number of the same open file. EMFILE.
Result<UniqueFd> duplicate(int fd);

}  // namespace vhostnet
