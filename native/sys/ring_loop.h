// Keeps a driver's ring in motion from a thread of its own: what the device returns is made available again at once.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <thread>

#include "sys/driver_ring.h"
#include "sys/unique_fd.h"

namespace vhostnet {

class RingLoop {
 public:
  struct Config {
    DriverRing* ring;  // nobody else works on it while the loop runs
    int call;
    int done;         // an eventfd, signalled when the loop has ended by itself
    uint64_t frames;  // how many to make available again
    uint32_t batch;   // frames between two looks at whether the device wants a kick
    uint16_t delay;   // chains to be used, less one, before the device is to call
  };

  static Result<std::unique_ptr<RingLoop>> start(const Config& config);
  // Ends the loop, if it has not ended.
  ~RingLoop();
  RingLoop(const RingLoop&) = delete;
  RingLoop& operator=(const RingLoop&) = delete;

  // Waits for the thread, which must be told to end or has ended. The frames that were made available again.
  Result<uint64_t> finish();

 private:
  RingLoop(const Config& config, UniqueFd stop) : config_(config), stop_(std::move(stop)) {}
  void run();
  Result<void> wait(uint64_t left);
  Result<void> turn();

  Config config_;
  UniqueFd stop_;
  std::atomic<bool> stopping_ = false;
  uint64_t done_ = 0;
  std::optional<Error> error_;
  std::thread thread_;
};

}  // namespace vhostnet
