// ioctl(2) with the one place that repeats it after a signal.
#pragma once

#include <sys/ioctl.h>

#include "sys/result.h"

namespace vhostnet {

// What the kernel returned, 0 or more. The argument is a pointer or, for the requests that take a value directly, an
// unsigned long.
template <typename Argument>
Result<int> control_value(int fd, unsigned long request, const char* name, Argument argument) {
  int result;
  do result = ::ioctl(fd, request, argument);
  while (result < 0 && errno == EINTR);
  if (result < 0) return system_error(name);
  return result;
}

template <typename Argument>
Result<void> control(int fd, unsigned long request, const char* name, Argument argument) {
  if (auto done = control_value(fd, request, name, argument); !done.ok()) return done.error();
  return {};
}

}  // namespace vhostnet
