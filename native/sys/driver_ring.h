// The driver's end of a split virtqueue for network frames (virtio 1.x section 2.7), over a pool of equal buffers. What
// sends is in driver_ring_send.cc, what receives in driver_ring_receive.cc.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "sys/buffer_pool.h"
#include "sys/descriptor_table.h"
#include "sys/memory.h"
#include "sys/result.h"
#include "sys/split_ring.h"

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
    std::atomic<uint64_t> frames = 0;
    std::atomic<uint64_t> bytes = 0;
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

  // For notifications, and for what was counted of them.
  SplitRing& ring() { return ring_; }
  const SplitRing& ring() const { return ring_; }
  const Counters& counters() const { return counters_; }
  // Chains that the device has.
  uint32_t in_flight() const { return static_cast<uint32_t>(ring_.counters().available - ring_.counters().used); }
  uint32_t free_buffers() const { return pool_.free(); }

 private:
  explicit DriverRing(Config config);

  using UsedElement = SplitRing::UsedElement;
  static Error unknown(const UsedElement& element);
  Result<uint16_t> check_received() const;
  // vhost drops what is shorter than an Ethernet header, and spins on what is shorter than the virtio header.
  uint32_t smallest_packet() const { return config_.vnet_hdr_len + 14; }
  uint32_t offer_singles(const Burst& burst, size_t packet, size_t segment);
  void make_singles_available(const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  bool lend(const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  Error refusal(const Burst& burst, uint32_t packet, size_t segment) const;
  void take_back(const Burst& burst, size_t segments, uint32_t descriptors);
  Result<uint32_t> recycle_sent(uint32_t frames);
  Result<uint32_t> recycle_received(uint32_t frames);
  void went_through(uint32_t chains, uint32_t frames, uint64_t bytes);

  Config config_;
  uint8_t* buffer_memory_;

  BufferPool pool_;
  DescriptorTable descriptors_;
  SplitRing ring_;
  Counters counters_;
};

}  // namespace vhostnet
