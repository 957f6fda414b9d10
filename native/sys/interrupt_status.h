// InterruptStatus and InterruptACK of virtio over MMIO (virtio 1.x section 4.2.2), served on the thread of the vCPU:
// computed from the rings when asked, since kernel and guest pass interrupts along without this process.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "sys/guest_bus.h"
#include "sys/memory.h"

namespace vhostnet {

// The used-buffer bit says whether some used index has moved since the last acknowledged read. One that moved by
// exactly 65,536 looks as if it had not: nothing in the ring tells the two apart.
class InterruptStatus final : public NativeRegisters {
 public:
  static constexpr uint64_t kSize = 8;

  explicit InterruptStatus(size_t queues) : queues_(queues) {}

  uint32_t read(uint64_t offset, uint32_t width) override;
  void write(uint64_t offset, uint32_t width, uint32_t value) override;

  size_t queues() const { return queues_.size(); }
  // Used buffers are shown from DRIVER_OK on: what a driver writes into its used rings before is no event.
  void set_started(bool started);
  // The queue was enabled: its used index begins at 0, and may move at once. It is read from `memory` at `offset`, and
  // is whatever `set_used` says where there is none.
  void begin(size_t queue, std::shared_ptr<Mapping> memory, uint64_t offset);
  void set_used(size_t queue, uint16_t used);
  // The queue runs no more: what was used stays to be acknowledged.
  void end(size_t queue);
  void config_changed();
  void reset();

 private:
  struct Queue {
    bool enabled = false;
    std::shared_ptr<Mapping> memory;
    uint64_t offset = 0;
    uint16_t used = 0;
    // As it was at the last read, and at the last one that the driver acknowledged.
    uint16_t shown = 0;
    uint16_t acknowledged = 0;

    uint16_t used_index() const;
  };
  // An event that a read has shown is taken back by the next acknowledgement. What came since has an interrupt of its
  // own, which must find it here.
  struct Event {
    bool pending = false;
    bool shown = false;
  };

  uint32_t status();
  void acknowledge(uint32_t bits);

  std::mutex mutex_;
  std::vector<Queue> queues_;
  bool started_ = false;
  // A queue ended with buffers not acknowledged.
  Event left_;
  Event config_;
};

}  // namespace vhostnet
