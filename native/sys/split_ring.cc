#include "sys/split_ring.h"

#include <chrono>
#include <thread>

#include "sys/eventfd.h"
#include "sys/ring_error.h"

namespace vhostnet {

namespace {

constexpr uint16_t kAvailNoInterrupt = 1;  // VIRTQ_AVAIL_F_NO_INTERRUPT
constexpr uint16_t kUsedNoNotify = 1;      // VIRTQ_USED_F_NO_NOTIFY

void store_release(uint16_t* word, uint16_t value) { std::atomic_ref(*word).store(value, std::memory_order_release); }

// Section 2.7.7.2: whether going from `before` to `now` passed `event`.
bool need_event(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

}  // namespace

SplitRing::SplitRing(uint8_t* avail, uint8_t* used, uint32_t num, bool event_idx, int kick)
    : avail_(avail), used_(used), mask_(static_cast<uint16_t>(num - 1)), event_idx_(event_idx), kick_(kick) {
  std::memset(avail_, 0, avail_size(num));
  std::memset(used_, 0, used_size(num));
  disarm();
}

// Section 2.7.13: entries, then idx, then a full barrier, then the device's wish to be notified.
Result<void> SplitRing::publish() {
  if (next_available_ == last_published_) return {};
  add(counters_.available, static_cast<uint16_t>(next_available_ - last_published_));
  store_release(avail_idx(), next_available_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bool wanted = event_idx_ ? need_event(load_acquire(avail_event()), next_available_, last_published_)
                           : !(load_acquire(used_flags()) & kUsedNoNotify);
  last_published_ = next_available_;
  if (!wanted) {
    add(counters_.kicks_suppressed, 1);
    return {};
  }
  add(counters_.kicks, 1);
  return eventfd_write(kick_, 1);
}

Result<uint16_t> SplitRing::checked_pending() const {
  uint16_t count = pending();
  if (count > mask_ + 1u) return broken("used.idx moved by more than the ring size");
  return count;
}

bool SplitRing::arm(uint16_t delay) {
  if (event_idx_)
    store_release(used_event(), static_cast<uint16_t>(last_used_ + delay));
  else
    store_release(avail_flags(), 0);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return pending() > delay;
}

// With EVENT_IDX there is no flag: the event index is put half-way round from what was used. used.idx cannot get there
// before entries are taken, and the device, which may look late, has not passed it with any it is still to signal.
void SplitRing::disarm() {
  if (event_idx_)
    store_release(used_event(), static_cast<uint16_t>(last_used_ + 0x8000));
  else
    store_release(avail_flags(), kAvailNoInterrupt);
}

bool SplitRing::spin(uint16_t delay, uint32_t microseconds) const {
  auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (pending() <= delay) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace vhostnet
