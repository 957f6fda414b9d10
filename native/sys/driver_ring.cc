#include "sys/driver_ring.h"

#include <algorithm>
#include <bit>

#include "sys/ring_error.h"

namespace vhostnet {

Result<std::unique_ptr<DriverRing>> DriverRing::create(Config config) {
  const Mapping& mapping = *config.mapping;
  if (config.num < 2 || config.num > 32768 || !std::has_single_bit(config.num))
    return misused("num is not a power of two in 2..32768");
  if (config.max_segments < 1 || config.max_segments > 1024) return misused("maxSegments is not in 1..1024");
  if (config.buffer_size < config.vnet_hdr_len + 14 || config.buffer_count < 1)
    return misused("a buffer must hold a virtio header and an Ethernet header");
  size_t table = config.indirect ? size_t{config.num} * config.max_segments * sizeof(DescriptorTable::Descriptor) : 0;
  uint64_t pool = uint64_t{config.buffer_size} * config.buffer_count;
  if (pool > UINT32_MAX) return misused("the pool is over 4 GiB");
  if (!mapping.contains(config.desc, size_t{16} * config.num) ||
      !mapping.contains(config.avail, SplitRing::avail_size(config.num)) ||
      !mapping.contains(config.used, SplitRing::used_size(config.num)) ||
      !mapping.contains(config.indirect_tables, table) || !mapping.contains(config.pool, pool))
    return misused("a part of the ring or its pool is outside the mapping");
  if (config.desc % 16 || config.avail % 2 || config.used % 4 || config.indirect_tables % 16)
    return misused("a part of the ring is not aligned");
  return std::unique_ptr<DriverRing>(new DriverRing(std::move(config)));
}

DriverRing::DriverRing(Config config)
    : config_(std::move(config)),
      buffer_memory_(config_.mapping->address() + config_.pool),
      pool_(config_.buffer_count, config_.buffer_size),
      descriptors_({config_.mapping->address(), config_.guest_address, config_.num, config_.desc,
                    config_.indirect_tables, config_.pool, config_.max_segments, config_.device_writes,
                    config_.indirect}),
      ring_(config_.mapping->address() + config_.avail, config_.mapping->address() + config_.used, config_.num,
            config_.event_idx, config_.kick) {}

uint32_t DriverRing::allocate(uint32_t* offsets, uint32_t count) {
  uint32_t taken = std::min(count, pool_.free());
  for (uint32_t i = 0; i < taken; i++) offsets[i] = pool_.offset_of(pool_.take());
  return taken;
}

uint32_t DriverRing::prepare(const Burst& burst, uint32_t length) {
  size_t room = std::min({burst.packets, burst.segment_count, size_t{descriptors_.free()}});
  uint32_t count = allocate(burst.offsets, static_cast<uint32_t>(room));
  std::fill_n(burst.segments, count, 1);
  std::fill_n(burst.lengths, count, length);
  return count;
}

// All of them, or none.
Result<void> DriverRing::release(const uint32_t* offsets, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (!pool_.callers(offsets[i], 0)) {
      pool_.take_back(i);
      return misused("released a buffer at offset " + std::to_string(offsets[i]) + " that is not the caller's");
    }
    pool_.give(pool_.buffer_of(offsets[i]));
  }
  if (!config_.device_writes) return {};
  if (auto posted = post(); !posted.ok()) return posted.error();
  return {};
}

// There must be as many descriptors.
void DriverRing::make_singles_available(const uint32_t* offsets, const uint32_t* lengths, uint32_t count) {
  for (uint32_t run; count > 0; count -= run, offsets += run, lengths += run) {
    SplitRing::Entries entries = ring_.next_entries(count);
    run = entries.count;
    descriptors_.make_singles(pool_, offsets, lengths, run, entries.heads);
    ring_.wrote_entries(run);
  }
}

// The device returned something that it did not have.
Error DriverRing::unknown(const UsedElement& element) {
  return broken("the device returned descriptor " + std::to_string(element.id) + ", which it did not have");
}

// Chains that came back in order, as so many frames.
void DriverRing::went_through(uint32_t chains, uint32_t frames, uint64_t bytes) {
  ring_.count_used(chains);
  SplitRing::add(counters_.frames, frames);
  SplitRing::add(counters_.bytes, bytes - uint64_t{frames} * config_.vnet_hdr_len);
  ring_.disarm();
}

// The descriptors are in place already: only their heads are offered anew.
Result<uint32_t> DriverRing::recycle(uint32_t frames) {
  auto recycled = config_.device_writes ? recycle_received(frames) : recycle_sent(frames);
  if (auto published = ring_.publish(); !published.ok()) return published.error();
  return recycled;
}

}  // namespace vhostnet
