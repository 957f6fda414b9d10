// The driver's end of a split virtqueue for network frames (virtio 1.x section 2.7), over a pool of equal buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

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

  struct Counters {
    uint64_t available = 0;
    uint64_t used = 0;
    uint64_t frames = 0;
    uint64_t bytes = 0;
    uint64_t kicks = 0;
    uint64_t kicks_suppressed = 0;
  };

  // A burst, struct of arrays: packet p is the next segments[p] pairs of offset (into the pool) and length.
  struct Burst {
    uint16_t* segments;
    size_t packets;
    uint32_t* offsets;
    uint32_t* lengths;
    size_t segment_count;
  };

  // EINVAL: a part does not lie in the mapping, or a number is out of its range.
  static Result<std::unique_ptr<DriverRing>> create(Config config);

  uint32_t allocate(uint32_t* offsets, uint32_t count);
  Result<void> release(const uint32_t* offsets, uint32_t count);

  // Transmit. Accepts packets in order until the ring is full; nothing of the burst where one of them is invalid.
  Result<uint32_t> send(const Burst& burst);
  Result<uint32_t> reclaim();

  // Receive.
  Result<uint32_t> post();
  Result<uint32_t> receive(const Burst& burst);

  bool arm(uint16_t delay);
  void disarm();

  const Counters& counters() const { return counters_; }
  uint16_t available_index() const;
  uint16_t used_index() const;
  uint32_t free_buffers() const { return static_cast<uint32_t>(free_buffers_.size()); }

 private:
  // Layouts of virtio 1.x section 2.7.5, 2.7.8.
  struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
  };
  struct UsedElement {
    uint32_t id;
    uint32_t length;
  };
  enum class Owner : uint8_t { kPool, kUser, kBurst, kRing };
  struct Segment {
    uint32_t buffer;
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

  uint64_t guest_address_of(size_t offset) const { return config_.guest_address + offset; }
  uint16_t pending() const;
  Result<UsedElement> peek_used(uint16_t ahead) const;
  Result<uint16_t> check_received() const;
  Result<void> check_burst(const Burst& burst);
  void make_available(const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  void return_descriptors(uint16_t head);
  Result<void> publish();

  Config config_;
  uint8_t* memory_;
  uint8_t* pool_;
  Descriptor* desc_;
  uint8_t* avail_;
  uint8_t* used_;

  // What the driver knows is kept here: what the device could write to is never read back.
  std::vector<uint16_t> free_descriptors_;
  std::vector<uint32_t> free_buffers_;
  std::vector<Owner> owner_;
  std::vector<uint16_t> next_;           // by descriptor: the next one of its chain
  std::vector<uint16_t> chain_length_;   // by head: descriptors of the ring that its chain takes, 0 = not available
  std::vector<uint16_t> segment_count_;  // by head
  std::vector<Segment> segments_;        // by head times max_segments

  uint16_t next_available_ = 0;
  uint16_t last_published_ = 0;
  uint16_t last_used_ = 0;
  Counters counters_;
};

}  // namespace vhostnet
