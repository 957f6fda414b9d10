#include "sys/quiet_thread.h"

#include <pthread.h>

#include <system_error>

#include "sys/signals_blocked.h"

namespace vhostnet {

Result<std::thread> start_quiet_thread(const char* name, std::function<void()> body) {
  SignalsBlocked blocked;
  std::thread thread;
  try {
    thread = std::thread(std::move(body));
  } catch (const std::system_error& failure) {
    return Error{failure.code().value(), "pthread_create", {}};
  }
  ::pthread_setname_np(thread.native_handle(), name);
  return thread;
}

}  // namespace vhostnet
