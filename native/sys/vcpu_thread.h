// A thread that runs one vCPU, serves the accesses at which its guest leaves it, and can be held and ended at any time.
#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "sys/guest_bus.h"
#include "sys/result.h"

namespace vhostnet {

class VcpuThread {
 public:
  // An access to a window that is not served natively.
  struct Request {
    uint32_t window;
    uint64_t offset;
    uint32_t width;
    bool write;
    uint32_t value;
  };
  // Why it runs no more: KVM's exit reason with what KVM says of it, or the errno of KVM_RUN.
  struct End {
    uint32_t exit_reason;
    uint64_t detail;
    int error;
  };
  // Written by the thread, read by any.
  struct Counters {
    std::atomic<uint64_t> exits = 0;
    std::atomic<uint64_t> port_accesses = 0;
    std::atomic<uint64_t> memory_accesses = 0;
    // Those that nobody has a window for, and those that were asked.
    std::atomic<uint64_t> unmapped = 0;
    std::atomic<uint64_t> asked = 0;
  };

  // `look`: called on the thread when there is a request, and when it has ended. Held until resume().
  static Result<std::unique_ptr<VcpuThread>> start(int vcpu, size_t run_size, uint32_t id,
                                                   std::shared_ptr<const GuestBus> bus, std::function<void()> look);
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  ~VcpuThread();

  // Returns once no instruction of the guest runs: it may be within one that waits for an answer.
  void pause();
  void resume();
  // Ends the thread and waits for it, whatever it waits for. Idempotent.
  void stop();

  std::optional<Request> request();
  void answer(uint32_t value);
  std::optional<End> end();
  const Counters& counters() const { return counters_; }

 private:
  VcpuThread(int vcpu, kvm_run* run, size_t run_size, std::shared_ptr<const GuestBus> bus, std::function<void()> look);
  void body();
  // Whether it goes on.
  bool may_run();
  void run_once();
  void serve_exit();
  void serve_ports();
  void access(GuestBus::Space space, uint64_t address, uint8_t* data, uint32_t length, bool write);
  uint32_t access_part(GuestBus::Space space, uint64_t address, uint32_t width, bool write, uint32_t value);
  uint32_t ask(const Request& request);
  void ended(End end);
  void leave_guest();

  const int vcpu_;
  kvm_run* const run_;
  const size_t run_size_;
  const std::shared_ptr<const GuestBus> bus_;
  const std::function<void()> look_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool pausing_ = true;
  bool stopping_ = false;
  // Whether it waits in may_run(), with no instruction half done.
  bool held_ = false;
  // Whether the last exit is complete: KVM finishes an instruction when it is entered again.
  bool settled_ = true;
  bool done_ = false;
  std::optional<Request> request_;
  std::optional<uint32_t> answer_;
  std::optional<End> end_;
  Counters counters_;
  std::thread thread_;
};

}  // namespace vhostnet
