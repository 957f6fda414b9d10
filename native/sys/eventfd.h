// eventfd(2): the kick, call and err of a virtqueue.
#pragma once

#include <cstdint>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

// A non-blocking, close-on-exec counter that starts at 0.
Result<UniqueFd> eventfd_create();

// Adds value (1 .. 2^64-2) to the counter. EAGAIN: it would overflow.
Result<void> eventfd_write(int fd, uint64_t value);

// Takes the counter and sets it to 0; 0 where nothing was signalled.
Result<uint64_t> eventfd_read(int fd);

}  // namespace vhostnet
