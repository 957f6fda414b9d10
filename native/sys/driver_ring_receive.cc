#include <algorithm>
#include <array>
#include <cstring>

#include "sys/driver_ring.h"
#include "sys/ring_error.h"

namespace vhostnet {

namespace {

constexpr size_t kNumBuffersOffset = 10;  // virtio_net_hdr.num_buffers

}  // namespace

Result<uint32_t> DriverRing::post() {
  uint32_t posted = std::min(pool_.free(), descriptors_.free());
  std::array<uint32_t, 64> offsets;
  std::array<uint32_t, 64> lengths;
  lengths.fill(config_.buffer_size);
  for (uint32_t left = posted, run; left > 0; left -= run) {
    run = std::min(left, static_cast<uint32_t>(offsets.size()));
    for (uint32_t i = 0; i < run; i++) {
      uint32_t buffer = pool_.take();
      pool_.lend_to_ring(buffer);
      offsets[i] = pool_.offset_of(buffer);
    }
    make_singles_available(offsets.data(), lengths.data(), run);
  }
  if (auto published = ring_.publish(); !published.ok()) return published.error();
  return posted;
}

// How many buffers the next packet has, once everything the device said of them was found to be in order.
Result<uint16_t> DriverRing::check_received() const {
  auto pending = ring_.checked_pending();
  if (!pending.ok()) return pending.error();
  uint16_t buffers = 1;
  for (uint16_t i = 0; i < buffers; i++) {
    UsedElement element = ring_.used_element(i);
    if (!descriptors_.begins(element.id)) return unknown(element);
    if (element.length > config_.buffer_size || (i == 0 && element.length < config_.vnet_hdr_len))
      return broken("the device wrote " + std::to_string(element.length) + " bytes to a buffer of " +
                    std::to_string(config_.buffer_size));
    if (i > 0 || !config_.mrg_rxbuf) continue;
    uint32_t buffer = descriptors_.buffers_of(static_cast<uint16_t>(element.id))[0];
    std::memcpy(&buffers, buffer_memory_ + pool_.offset_of(buffer) + kNumBuffersOffset, sizeof buffers);
    // A packet's buffers are used together (5.1.6.4.1): one move of used.idx shows all of them.
    if (buffers < 1 || buffers > pending.value())
      return broken("a received packet says it has " + std::to_string(buffers) + " buffers, and " +
                    std::to_string(pending.value()) + " were used");
  }
  return buffers;
}

// Packets in front of one that is not in order are received; the next call fails.
Result<DriverRing::Received> DriverRing::receive(const Burst& burst) {
  uint32_t packet = 0;
  size_t segment = 0;
  uint64_t bytes = 0;
  while (packet < burst.packets && ring_.pending() > 0) {
    auto checked = check_received();
    if (!checked.ok()) {
      if (packet == 0) return checked.error();
      break;
    }
    uint16_t buffers = checked.value();
    if (buffers > burst.segment_count - segment) {
      if (packet > 0) break;
      return misused("the burst holds " + std::to_string(burst.segment_count) + " segments, the packet has " +
                     std::to_string(buffers));
    }
    for (uint16_t i = 0; i < buffers; i++) {
      // Looked at again, since an earlier buffer of this packet may have been the same one.
      UsedElement element = ring_.used_element(0);
      if (!descriptors_.begins(element.id)) return unknown(element);
      auto head = static_cast<uint16_t>(element.id);
      uint32_t buffer = descriptors_.buffers_of(head)[0];
      burst.offsets[segment] = pool_.offset_of(buffer);
      burst.lengths[segment] = std::min(element.length, config_.buffer_size);
      bytes += burst.lengths[segment++];
      pool_.back_to_caller(buffer);
      descriptors_.give_back(head);
      ring_.take_used(1);
    }
    burst.segments[packet++] = buffers;
  }
  auto segments = static_cast<uint32_t>(segment);
  if (packet > 0) went_through(segments, packet, bytes);
  if (auto posted = post(); !posted.ok()) return posted.error();
  return Received{packet, segments};
}

Result<uint32_t> DriverRing::recycle_received(uint32_t frames) {
  uint32_t done = 0;
  uint32_t chains = 0;
  uint64_t bytes = 0;
  while (done < frames && ring_.pending() > 0) {
    auto checked = check_received();
    if (!checked.ok()) {
      if (done == 0) return checked.error();
      break;
    }
    for (uint16_t buffers = checked.value(); buffers > 0; buffers--) {
      UsedElement element = ring_.used_element(0);
      if (!descriptors_.begins(element.id)) return unknown(element);
      bytes += std::min(element.length, config_.buffer_size);
      ring_.put_available(static_cast<uint16_t>(element.id));
      ring_.take_used(1);
      chains++;
    }
    done++;
  }
  if (done > 0) went_through(chains, done, bytes);
  return done;
}

}  // namespace vhostnet
