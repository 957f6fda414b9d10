// A thread that waits on file descriptors with epoll(7).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

// Each fd is reported once per arming (EPOLLONESHOT), so that an fd which nobody has read yet cannot spin the thread.
class PollThread {
 public:
  // Called on the thread.
  using Ready = std::function<void(std::vector<uint32_t> ids)>;

  static Result<std::unique_ptr<PollThread>> start(Ready ready);
  PollThread(const PollThread&) = delete;
  PollThread& operator=(const PollThread&) = delete;

  // Ends the thread and waits for it; ready is not called afterwards.
  ~PollThread();

  // EEXIST: watched already. EPERM: the fd cannot be polled.
  Result<void> add(uint32_t id, int fd);
  Result<void> rearm(uint32_t id, int fd);
  Result<void> remove(int fd);

 private:
  PollThread(UniqueFd epoll, UniqueFd stop, Ready ready);
  void run();

  UniqueFd epoll_;
  UniqueFd stop_;
  Ready ready_;
  std::thread thread_;
};

}  // namespace vhostnet
