#include "sys/ring_loop.h"

#include <poll.h>

#include <algorithm>
#include <array>

#include "sys/eventfd.h"
#include "sys/quiet_thread.h"

namespace vhostnet {

Result<std::unique_ptr<RingLoop>> RingLoop::start(const Config& config) {
  auto stop = eventfd_create();
  if (!stop.ok()) return stop.error();
  std::unique_ptr<RingLoop> loop(new RingLoop(config, std::move(stop.value())));
  auto thread = start_quiet_thread("vhost-net-ring", [raw = loop.get()] { raw->run(); });
  if (!thread.ok()) return thread.error();
  loop->thread_ = std::move(thread.value());
  return loop;
}

RingLoop::~RingLoop() { static_cast<void>(finish()); }

Result<uint64_t> RingLoop::finish() {
  if (thread_.joinable()) {
    stopping_.store(true, std::memory_order_relaxed);
    // Cannot fail: the counter is 0 and is written to once.
    static_cast<void>(eventfd_write(stop_.get(), 1).ok());
    thread_.join();
  }
  if (error_) return *error_;
  return done_;
}

void RingLoop::run() {
  while (done_ < config_.frames && !stopping_.load(std::memory_order_relaxed)) {
    if (auto turned = turn(); !turned.ok()) {
      error_ = turned.error();
      break;
    }
  }
  // Fails only at 2^64 - 2 signals.
  static_cast<void>(eventfd_write(config_.done, 1).ok());
}

Result<void> RingLoop::turn() {
  uint64_t left = config_.frames - done_;
  auto moved = config_.ring->recycle(static_cast<uint32_t>(std::min<uint64_t>(left, config_.batch)));
  if (!moved.ok()) return moved.error();
  done_ += moved.value();
  if (moved.value() > 0) return {};
  return wait(left);
}

// Whoever waits for the last frames must not wait for more than there are.
Result<void> RingLoop::wait(uint64_t left) {
  uint64_t most = std::min<uint64_t>(left, std::max<uint32_t>(config_.ring->in_flight(), 1)) - 1;
  if (config_.ring->ring().arm(static_cast<uint16_t>(std::min<uint64_t>(config_.delay, most)))) return {};
  std::array<pollfd, 2> fds = {{{config_.call, POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  // EINTR: stopped by SIGSTOP and going on, or looked at by a debugger; every other signal is blocked.
  if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return system_error("poll");
  if (fds[0].revents != 0) {
    auto calls = eventfd_read(config_.call);
    if (!calls.ok()) return calls.error();
    config_.ring->ring().count_calls(calls.value());
  }
  config_.ring->ring().disarm();
  return {};
}

}  // namespace vhostnet
