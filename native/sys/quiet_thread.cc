#include "sys/quiet_thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>

namespace vhostnet {

Result<std::thread> start_quiet_thread(const char* name, std::function<void()> body) {
  // The thread inherits the mask.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  int error = 0;
  try {
    thread = std::thread(std::move(body));
  } catch (const std::system_error& failure) {
    error = failure.code().value();
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return Error{error, "pthread_create", {}};
  ::pthread_setname_np(thread.native_handle(), name);
  return thread;
}

}  // namespace vhostnet
