#include <algorithm>

#include "sys/driver_ring.h"
#include "sys/ring_error.h"

namespace vhostnet {

// Lends a packet's buffers to the ring: all, or none where it is not in order. A buffer that stands in the burst twice
// is lent already.
bool DriverRing::lend(const uint32_t* offsets, const uint32_t* lengths, uint32_t count) {
  uint64_t total = 0;
  uint32_t lent = 0;
  for (; lent < count && lengths[lent] > 0 && pool_.callers(offsets[lent], lengths[lent]); lent++) {
    pool_.lend_to_ring(pool_.buffer_of(offsets[lent]));
    total += lengths[lent];
  }
  if (lent == count && total >= smallest_packet()) return true;
  for (uint32_t i = 0; i < lent; i++) pool_.back_to_caller(pool_.buffer_of(offsets[i]));
  return false;
}

// Why a packet was not lent.
Error DriverRing::refusal(const Burst& burst, uint32_t packet, size_t segment) const {
  uint64_t total = 0;
  for (uint32_t i = 0; i < burst.segments[packet]; i++, segment++) {
    uint32_t offset = burst.offsets[segment];
    uint32_t length = burst.lengths[segment];
    total += length;
    if (length == 0 || !pool_.callers(offset, length))
      return misused("segment at offset " + std::to_string(offset) + ", length " + std::to_string(length) +
                     ", is not within one buffer of the caller's");
  }
  if (total < smallest_packet())
    return misused("packet " + std::to_string(packet) + " is shorter than a virtio and an Ethernet header");
  return misused("packet " + std::to_string(packet) + " has a buffer twice");
}

// Undoes what was made available since the last publish().
void DriverRing::take_back(const Burst& burst, size_t segments, uint32_t descriptors) {
  for (size_t i = 0; i < segments; i++) pool_.back_to_caller(pool_.buffer_of(burst.offsets[i]));
  descriptors_.take_back(descriptors);
  ring_.unpublish();
}

// The common packets, of one segment: as many as come next, are in order and find room. Returns their number.
uint32_t DriverRing::offer_singles(const Burst& burst, size_t packet, size_t segment) {
  size_t most = std::min({burst.packets - packet, burst.segment_count - segment, size_t{descriptors_.free()}});
  const uint32_t* segments = burst.segments + packet;
  auto singles = std::find_if(segments, segments + most, [](uint32_t count) { return count != 1; }) - segments;
  const uint32_t* offsets = burst.offsets + segment;
  const uint32_t* lengths = burst.lengths + segment;
  uint32_t lent = pool_.lend(offsets, lengths, static_cast<uint32_t>(singles), smallest_packet());
  make_singles_available(offsets, lengths, lent);
  return lent;
}

Result<uint32_t> DriverRing::send(const Burst& burst) {
  uint32_t descriptors = descriptors_.free();
  uint32_t packet = 0;
  size_t segment = 0;
  while (true) {
    uint32_t singles = offer_singles(burst, packet, segment);
    packet += singles;
    segment += singles;
    if (packet == burst.packets) break;
    uint32_t count = burst.segments[packet];
    bool whole = count >= 1 && count <= config_.max_segments && count <= burst.segment_count - segment;
    if (whole && descriptors_.free() < descriptors_.needed(count)) break;
    if (!whole || !lend(burst.offsets + segment, burst.lengths + segment, count)) {
      take_back(burst, segment, descriptors);
      if (whole) return refusal(burst, packet, segment);
      return misused("packet " + std::to_string(packet) + " has " + std::to_string(count) + " segments");
    }
    ring_.put_available(descriptors_.make(pool_, burst.offsets + segment, burst.lengths + segment, count));
    packet++;
    segment += count;
  }
  if (auto published = ring_.publish(); !published.ok()) return published.error();
  return packet;
}

Result<uint32_t> DriverRing::reclaim() {
  auto pending = ring_.checked_pending();
  if (!pending.ok()) return pending.error();
  const uint32_t count = pending.value();
  uint32_t taken = 0;
  uint64_t bytes = 0;
  UsedElement element;
  for (; taken < count; taken++) {
    element = ring_.used_element(taken);
    if (!descriptors_.begins(element.id)) break;
    auto head = static_cast<uint16_t>(element.id);
    const DescriptorTable::Chain chain = descriptors_.chain(head);
    const uint32_t* buffers = descriptors_.buffers_of(head);
    for (uint16_t s = 0; s < chain.segments; s++) pool_.give(buffers[s]);
    descriptors_.give_back(head);
    bytes += chain.bytes;
  }
  ring_.take_used(taken);
  if (taken > 0) went_through(taken, taken, bytes);
  if (taken < count) return unknown(element);
  return taken;
}

Result<uint32_t> DriverRing::recycle_sent(uint32_t frames) {
  auto pending = ring_.checked_pending();
  if (!pending.ok()) return pending.error();
  uint32_t count = std::min<uint32_t>(frames, pending.value());
  uint64_t bytes = 0;
  uint32_t done = 0;
  UsedElement element;
  for (; done < count; done++) {
    element = ring_.used_element(done);
    if (!descriptors_.begins(element.id)) break;
    auto head = static_cast<uint16_t>(element.id);
    bytes += descriptors_.chain(head).bytes;
    ring_.put_available(head);
  }
  ring_.take_used(done);
  if (done > 0) went_through(done, done, bytes);
  if (done < count) return unknown(element);
  return done;
}

}  // namespace vhostnet
