// Starts a thread that no signal is delivered to: those are for the threads of Node.
#pragma once

#include <functional>
#include <thread>

#include "sys/result.h"

namespace vhostnet {

// `name`: at most 15 bytes, as /proc shows it.
Result<std::thread> start_quiet_thread(const char* name, std::function<void()> body);

}  // namespace vhostnet
