// The driver's end of a split virtqueue for network frames (virtio 1.x section 2.7), over a pool of equal buffers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "sys/buffer_pool.h"
#include "sys/descriptor_table.h"
#include "sys/memory.h"
#include "sys/result.h"

namespace vhostnet {

class DriverRing {
 public:
  // Offsets are bytes into the mapping; `guest_address` is the guest-physical address of its first byte.
  struct Config {
    std::shared_ptr<Mapping> mapping;
    uint64_t guest_address;
    uint32_t num;
    size_t desc;
    size_t avail;
    size_t used;
    size_t indirect_tables;
    size_t pool;
    uint32_t buffer_size;
    uint32_t buffer_count;
    uint32_t max_segments;
    uint32_t vnet_hdr_len;
    bool device_writes;
    bool event_idx;
    bool indirect;
    bool mrg_rxbuf;
    int kick;
  };

  // Written by the one thread that works on the ring, read by any.
  struct Counters {
    std::atomic<uint64_t> available = 0;
    std::atomic<uint64_t> used = 0;
    std::atomic<uint64_t> frames = 0;
    std::atomic<uint64_t> bytes = 0;
    std::atomic<uint64_t> kicks = 0;
    std::atomic<uint64_t> kicks_suppressed = 0;
    std::atomic<uint64_t> calls = 0;
  };

  // A burst, struct of arrays: packet p is the next segments[p] pairs of offset (into the pool) and length.
  struct Burst {
    uint32_t* segments;
    size_t packets;
    uint32_t* offsets;
    uint32_t* lengths;
    size_t segment_count;
  };

  struct Received {
    uint32_t packets;
    uint32_t segments;
  };

  // EINVAL: a part does not lie in the mapping, or a number is out of its range.
  static Result<std::unique_ptr<DriverRing>> create(Config config);

  // Kicks signal this eventfd from now on, which is the caller's.
  void set_kick(int kick) { config_.kick = kick; }

  uint32_t allocate(uint32_t* offsets, uint32_t count);
  // Fills a burst with packets of one buffer each, as many as it and the ring have room for. Returns their number.
  uint32_t prepare(const Burst& burst, uint32_t length);
  Result<void> release(const uint32_t* offsets, uint32_t count);

  // Transmit. Accepts packets in order until the ring is full; none where one of those is invalid.
  Result<uint32_t> send(const Burst& burst);
  Result<uint32_t> reclaim();

  // Receive. Offers every free buffer to the device, as receive() and release() do themselves.
  Result<uint32_t> post();
  Result<Received> receive(const Burst& burst);

  // Makes available again, as it is, what the device has returned: at most that many frames. Returns their number.
  Result<uint32_t> recycle(uint32_t frames);

  // Asks for a call once more than `delay` chains are used; true where they are already.
  bool arm(uint16_t delay);
  void disarm();
  // Calls that were taken from the eventfd, which is not the ring's.
  void count_calls(uint64_t calls);
  // Looks for more than `delay` used chains, again and again for that long at most.
  bool spin(uint16_t delay, uint32_t microseconds) const;

  const Counters& counters() const { return counters_; }
  // Chains that the device has.
  uint32_t in_flight() const { return static_cast<uint32_t>(counters_.available - counters_.used); }
  uint16_t available_index() const;
  uint16_t used_index() const;
  uint32_t free_buffers() const { return pool_.free(); }

 private:
  // Virtio 1.x section 2.7.8.
  struct UsedElement {
    uint32_t id;
    uint32_t length;
  };

  explicit DriverRing(Config config);

  uint16_t* avail_flags() const { return reinterpret_cast<uint16_t*>(avail_); }
  uint16_t* avail_idx() const { return avail_flags() + 1; }
  uint16_t* avail_ring(uint32_t slot) const { return avail_flags() + 2 + slot; }
  uint16_t* used_event() const { return avail_flags() + 2 + config_.num; }
  uint16_t* used_flags() const { return reinterpret_cast<uint16_t*>(used_); }
  uint16_t* used_idx() const { return used_flags() + 1; }
  UsedElement* used_ring(uint32_t slot) const { return reinterpret_cast<UsedElement*>(used_ + 4) + slot; }
  uint16_t* avail_event() const { return reinterpret_cast<uint16_t*>(used_ + 4 + 8 * config_.num); }

  uint16_t pending() const;
  Result<uint16_t> checked_pending() const;
  bool take_used(uint16_t ahead, UsedElement& element) const;
  static Error unknown(const UsedElement& element);
  Result<uint16_t> check_received() const;
  // vhost drops what is shorter than an Ethernet header, and spins on what is shorter than the virtio header.
  uint32_t smallest_packet() const { return config_.vnet_hdr_len + 14; }
  uint32_t offer_singles(const Burst& burst, size_t packet, size_t segment);
  void make_singles_available(const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  bool lend(const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  Error refusal(const Burst& burst, uint32_t packet, size_t segment) const;
  void take_back(const Burst& burst, size_t segments, uint32_t descriptors);
  void put_available(uint16_t head) { *avail_ring(next_available_++ & mask_) = head; }
  void make_available(const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  Result<uint32_t> recycle_sent(uint32_t frames);
  Result<uint32_t> recycle_received(uint32_t frames);
  void went_through(uint32_t chains, uint32_t frames, uint64_t bytes);
  Result<void> publish();

  Config config_;
  uint8_t* memory_;
  uint8_t* buffer_memory_;
  uint8_t* avail_;
  uint8_t* used_;
  uint16_t mask_;

  BufferPool pool_;
  DescriptorTable descriptors_;
  uint16_t next_available_ = 0;
  uint16_t last_published_ = 0;
  uint16_t last_used_ = 0;
  Counters counters_;
};

}  // namespace vhostnet
