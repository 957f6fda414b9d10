// The available and the used ring of a split virtqueue as its driver sees them (virtio 1.x sections 2.7.6 to 2.7.10):
// entries, indices, and who wants to be notified of what.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "sys/result.h"

namespace vhostnet {

static_assert(std::endian::native == std::endian::little, "virtio 1 rings are little-endian");

class SplitRing {
 public:
  // Written by the one thread that works on the ring, read by any.
  struct Counters {
    std::atomic<uint64_t> available = 0;
    std::atomic<uint64_t> used = 0;
    std::atomic<uint64_t> kicks = 0;
    std::atomic<uint64_t> kicks_suppressed = 0;
    std::atomic<uint64_t> calls = 0;
  };
  // Section 2.7.8.
  struct UsedElement {
    uint32_t id;
    uint32_t length;
  };

  static constexpr size_t avail_size(uint32_t num) { return 6 + size_t{2} * num; }
  static constexpr size_t used_size(uint32_t num) { return 6 + size_t{8} * num; }

  // Clears both rings; the device is to call for nothing yet. Kicks signal the eventfd `kick`.
  SplitRing(uint8_t* avail, uint8_t* used, uint32_t num, bool event_idx, int kick);

  void set_kick(int kick) { kick_ = kick; }

  // Entries that can be written in one go, `most` at most, from where the next one goes.
  struct Entries {
    uint16_t* heads;
    uint32_t count;
  };
  Entries next_entries(uint32_t most) const {
    uint32_t slot = next_available_ & mask_;
    return {avail_ring(slot), std::min<uint32_t>(most, mask_ + 1u - slot)};
  }
  void wrote_entries(uint32_t count) { next_available_ = static_cast<uint16_t>(next_available_ + count); }
  void put_available(uint16_t head) { *avail_ring(next_available_++ & mask_) = head; }
  // Shows the device the entries that were written, and kicks it where it wants that.
  Result<void> publish();
  // Forgets the entries that were written since the last publish().
  void unpublish() { next_available_ = last_published_; }

  // How many used elements there are to take, whatever the device says.
  uint16_t pending() const { return static_cast<uint16_t>(used_index() - last_used_); }
  // EPROTO: more than the ring has.
  Result<uint16_t> checked_pending() const;
  // The device's memory is read once, and checked by whoever asks before it is believed.
  UsedElement used_element(uint32_t ahead) const {
    UsedElement element;
    std::memcpy(&element, used_ring((last_used_ + ahead) & mask_), sizeof element);
    return element;
  }
  void take_used(uint32_t count) { last_used_ = static_cast<uint16_t>(last_used_ + count); }

  // Asks for a call once more than `delay` elements are used; true where they are already.
  bool arm(uint16_t delay);
  void disarm();
  // Looks for more than `delay` used elements, again and again for that long at most.
  bool spin(uint16_t delay, uint32_t microseconds) const;

  void count_used(uint32_t chains) { add(counters_.used, chains); }
  // Calls that were taken from the eventfd, which is not the ring's.
  void count_calls(uint64_t calls) { add(counters_.calls, calls); }
  const Counters& counters() const { return counters_; }
  static void add(std::atomic<uint64_t>& counter, uint64_t value) {
    counter.store(counter.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  }

  uint16_t available_index() const { return load_acquire(avail_idx()); }
  uint16_t used_index() const { return load_acquire(used_idx()); }

 private:
  static uint16_t load_acquire(uint16_t* word) { return std::atomic_ref(*word).load(std::memory_order_acquire); }

  uint16_t* avail_flags() const { return reinterpret_cast<uint16_t*>(avail_); }
  uint16_t* avail_idx() const { return avail_flags() + 1; }
  uint16_t* avail_ring(uint32_t slot) const { return avail_flags() + 2 + slot; }
  uint16_t* used_event() const { return avail_flags() + 2 + mask_ + 1; }
  uint16_t* used_flags() const { return reinterpret_cast<uint16_t*>(used_); }
  uint16_t* used_idx() const { return used_flags() + 1; }
  uint8_t* used_ring(uint32_t slot) const { return used_ + 4 + sizeof(UsedElement) * slot; }
  uint16_t* avail_event() const { return reinterpret_cast<uint16_t*>(used_ring(mask_ + 1u)); }

  uint8_t* avail_;
  uint8_t* used_;
  uint16_t mask_;
  bool event_idx_;
  int kick_;
  uint16_t next_available_ = 0;
  uint16_t last_published_ = 0;
  uint16_t last_used_ = 0;
  Counters counters_;
};

}  // namespace vhostnet
