#include "sys/driver_ring.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <thread>

#include "sys/eventfd.h"

namespace vhostnet {

static_assert(std::endian::native == std::endian::little, "virtio 1 rings are little-endian");

namespace {

constexpr uint16_t kAvailNoInterrupt = 1;  // VIRTQ_AVAIL_F_NO_INTERRUPT
constexpr uint16_t kUsedNoNotify = 1;      // VIRTQ_USED_F_NO_NOTIFY
constexpr size_t kNumBuffersOffset = 10;   // virtio_net_hdr.num_buffers
constexpr const char* kOperation = "virtqueue";

uint16_t load_acquire(uint16_t* word) { return std::atomic_ref(*word).load(std::memory_order_acquire); }
void store_release(uint16_t* word, uint16_t value) { std::atomic_ref(*word).store(value, std::memory_order_release); }

// virtio 1.x section 2.7.7.2: whether going from `before` to `now` passed `event`.
bool need_event(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

void add(std::atomic<uint64_t>& counter, uint64_t value) {
  counter.store(counter.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

Error broken(std::string detail) { return Error{EPROTO, kOperation, std::move(detail)}; }
Error misused(std::string detail) { return Error{EINVAL, kOperation, std::move(detail)}; }

}  // namespace

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
      !mapping.contains(config.avail, 6 + size_t{2} * config.num) ||
      !mapping.contains(config.used, 6 + size_t{8} * config.num) || !mapping.contains(config.indirect_tables, table) ||
      !mapping.contains(config.pool, pool))
    return misused("a part of the ring or its pool is outside the mapping");
  if (config.desc % 16 || config.avail % 2 || config.used % 4 || config.indirect_tables % 16)
    return misused("a part of the ring is not aligned");
  return std::unique_ptr<DriverRing>(new DriverRing(std::move(config)));
}

DriverRing::DriverRing(Config config)
    : config_(std::move(config)),
      memory_(config_.mapping->address()),
      buffer_memory_(memory_ + config_.pool),
      avail_(memory_ + config_.avail),
      used_(memory_ + config_.used),
      mask_(static_cast<uint16_t>(config_.num - 1)),
      pool_(config_.buffer_count, config_.buffer_size),
      descriptors_({memory_, config_.guest_address, config_.num, config_.desc, config_.indirect_tables, config_.pool,
                    config_.max_segments, config_.device_writes, config_.indirect}) {
  std::memset(avail_, 0, 6 + size_t{2} * config_.num);
  std::memset(used_, 0, 6 + size_t{8} * config_.num);
  disarm();
}

uint16_t DriverRing::available_index() const { return load_acquire(avail_idx()); }
uint16_t DriverRing::used_index() const { return load_acquire(used_idx()); }

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
  next_available_ = last_published_;
}

// There must be descriptors enough.
void DriverRing::make_available(const uint32_t* offsets, const uint32_t* lengths, uint32_t count) {
  put_available(descriptors_.make(pool_, offsets, lengths, count));
}

// Virtio 1.x section 2.7.13: entries, then idx, then a full barrier, then the device's wish to be notified.
Result<void> DriverRing::publish() {
  if (next_available_ == last_published_) return {};
  add(counters_.available, static_cast<uint16_t>(next_available_ - last_published_));
  store_release(avail_idx(), next_available_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bool wanted = config_.event_idx ? need_event(load_acquire(avail_event()), next_available_, last_published_)
                                  : !(load_acquire(used_flags()) & kUsedNoNotify);
  last_published_ = next_available_;
  if (!wanted) {
    add(counters_.kicks_suppressed, 1);
    return {};
  }
  add(counters_.kicks, 1);
  return eventfd_write(config_.kick, 1);
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

// There must be as many descriptors.
void DriverRing::make_singles_available(const uint32_t* offsets, const uint32_t* lengths, uint32_t count) {
  for (uint32_t run; count > 0; count -= run, offsets += run, lengths += run) {
    uint32_t slot = next_available_ & mask_;
    run = std::min(count, config_.num - slot);
    descriptors_.make_singles(pool_, offsets, lengths, run, avail_ring(slot));
    next_available_ = static_cast<uint16_t>(next_available_ + run);
  }
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
    make_available(burst.offsets + segment, burst.lengths + segment, count);
    packet++;
    segment += count;
  }
  if (auto published = publish(); !published.ok()) return published.error();
  return packet;
}

uint16_t DriverRing::pending() const { return static_cast<uint16_t>(load_acquire(used_idx()) - last_used_); }

Result<uint16_t> DriverRing::checked_pending() const {
  uint16_t count = pending();
  if (count > config_.num) return broken("used.idx moved by more than the ring size");
  return count;
}

// The device's memory is read once, and checked before it is believed.
inline bool DriverRing::take_used(uint16_t ahead, UsedElement& element) const {
  std::memcpy(&element, used_ring((last_used_ + ahead) & mask_), sizeof element);
  return descriptors_.begins(element.id);
}

Error DriverRing::unknown(const UsedElement& element) {
  return broken("the device returned descriptor " + std::to_string(element.id) + ", which it did not have");
}

Result<uint32_t> DriverRing::reclaim() {
  auto pending = checked_pending();
  if (!pending.ok()) return pending.error();
  const uint16_t count = pending.value();
  uint16_t taken = 0;
  uint64_t bytes = 0;
  UsedElement element;
  for (; taken < count && take_used(taken, element); taken++) {
    auto head = static_cast<uint16_t>(element.id);
    const DescriptorTable::Chain chain = descriptors_.chain(head);
    const uint32_t* buffers = descriptors_.buffers_of(head);
    for (uint16_t s = 0; s < chain.segments; s++) pool_.give(buffers[s]);
    descriptors_.give_back(head);
    bytes += chain.bytes;
  }
  last_used_ = static_cast<uint16_t>(last_used_ + taken);
  if (taken > 0) went_through(taken, taken, bytes);
  if (taken < count) return unknown(element);
  return uint32_t{taken};
}

// Chains that came back in order, as so many frames.
void DriverRing::went_through(uint32_t chains, uint32_t frames, uint64_t bytes) {
  add(counters_.used, chains);
  add(counters_.frames, frames);
  add(counters_.bytes, bytes - uint64_t{frames} * config_.vnet_hdr_len);
  disarm();
}

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
  if (auto published = publish(); !published.ok()) return published.error();
  return posted;
}

// How many buffers the next packet has, once everything the device said of them was found to be in order.
Result<uint16_t> DriverRing::check_received() const {
  auto pending = checked_pending();
  if (!pending.ok()) return pending.error();
  uint16_t buffers = 1;
  for (uint16_t i = 0; i < buffers; i++) {
    UsedElement element;
    if (!take_used(i, element)) return unknown(element);
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
  while (packet < burst.packets && pending() > 0) {
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
      UsedElement element;
      if (!take_used(0, element)) return unknown(element);
      auto head = static_cast<uint16_t>(element.id);
      uint32_t buffer = descriptors_.buffers_of(head)[0];
      burst.offsets[segment] = pool_.offset_of(buffer);
      burst.lengths[segment] = std::min(element.length, config_.buffer_size);
      bytes += burst.lengths[segment++];
      pool_.back_to_caller(buffer);
      descriptors_.give_back(head);
      last_used_++;
    }
    burst.segments[packet++] = buffers;
  }
  auto segments = static_cast<uint32_t>(segment);
  if (packet > 0) went_through(segments, packet, bytes);
  if (auto posted = post(); !posted.ok()) return posted.error();
  return Received{packet, segments};
}

// The descriptors are in place already: only their heads are offered anew.
Result<uint32_t> DriverRing::recycle(uint32_t frames) {
  auto recycled = config_.device_writes ? recycle_received(frames) : recycle_sent(frames);
  if (auto published = publish(); !published.ok()) return published.error();
  return recycled;
}

Result<uint32_t> DriverRing::recycle_sent(uint32_t frames) {
  auto pending = checked_pending();
  if (!pending.ok()) return pending.error();
  uint32_t count = std::min<uint32_t>(frames, pending.value());
  // In registers: what the loop writes to could be these, for all that the compiler knows.
  uint16_t available = next_available_;
  uint16_t used = last_used_;
  uint64_t bytes = 0;
  uint32_t done = 0;
  UsedElement element;
  for (; done < count; done++) {
    std::memcpy(&element, used_ring(used & mask_), sizeof element);
    if (!descriptors_.begins(element.id)) break;
    bytes += descriptors_.chain(static_cast<uint16_t>(element.id)).bytes;
    *avail_ring(available & mask_) = static_cast<uint16_t>(element.id);
    available++;
    used++;
  }
  next_available_ = available;
  last_used_ = used;
  if (done > 0) went_through(done, done, bytes);
  if (done < count) return unknown(element);
  return done;
}

Result<uint32_t> DriverRing::recycle_received(uint32_t frames) {
  uint32_t done = 0;
  uint32_t chains = 0;
  uint64_t bytes = 0;
  while (done < frames && pending() > 0) {
    auto checked = check_received();
    if (!checked.ok()) {
      if (done == 0) return checked.error();
      break;
    }
    for (uint16_t buffers = checked.value(); buffers > 0; buffers--) {
      UsedElement element;
      if (!take_used(0, element)) return unknown(element);
      bytes += std::min(element.length, config_.buffer_size);
      put_available(static_cast<uint16_t>(element.id));
      last_used_++;
      chains++;
    }
    done++;
  }
  if (done > 0) went_through(chains, done, bytes);
  return done;
}

bool DriverRing::arm(uint16_t delay) {
  if (config_.event_idx)
    store_release(used_event(), static_cast<uint16_t>(last_used_ + delay));
  else
    store_release(avail_flags(), 0);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return pending() > delay;
}

// With EVENT_IDX there is no flag: the event index is put half-way round from what was used. used.idx cannot get there
// before entries are taken, and the device, which may look late, has not passed it with any it is still to signal.
void DriverRing::disarm() {
  if (config_.event_idx)
    store_release(used_event(), static_cast<uint16_t>(last_used_ + 0x8000));
  else
    store_release(avail_flags(), kAvailNoInterrupt);
}

void DriverRing::count_calls(uint64_t calls) { add(counters_.calls, calls); }

bool DriverRing::spin(uint16_t delay, uint32_t microseconds) const {
  auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (pending() <= delay) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace vhostnet
