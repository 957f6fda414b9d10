#include "sys/driver_ring.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "sys/eventfd.h"

namespace vhostnet {

static_assert(std::endian::native == std::endian::little, "virtio 1 rings are little-endian");

namespace {

constexpr uint16_t kNext = 1;              // VIRTQ_DESC_F_NEXT
constexpr uint16_t kWrite = 2;             // VIRTQ_DESC_F_WRITE
constexpr uint16_t kIndirect = 4;          // VIRTQ_DESC_F_INDIRECT
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
  size_t table = config.indirect ? size_t{config.num} * config.max_segments * sizeof(Descriptor) : 0;
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
      pool_(memory_ + config_.pool),
      desc_(reinterpret_cast<Descriptor*>(memory_ + config_.desc)),
      avail_(memory_ + config_.avail),
      used_(memory_ + config_.used),
      owner_(config_.buffer_count, Owner::kPool),
      next_(config_.num),
      chain_length_(config_.num),
      segment_count_(config_.num),
      segments_(size_t{config_.num} * config_.max_segments) {
  std::memset(desc_, 0, size_t{16} * config_.num);
  std::memset(avail_, 0, 6 + size_t{2} * config_.num);
  std::memset(used_, 0, 6 + size_t{8} * config_.num);
  for (uint32_t i = config_.num; i-- > 0;) free_descriptors_.push_back(static_cast<uint16_t>(i));
  for (uint32_t i = config_.buffer_count; i-- > 0;) free_buffers_.push_back(i);
  disarm();
}

uint16_t DriverRing::available_index() const { return load_acquire(avail_idx()); }
uint16_t DriverRing::used_index() const { return load_acquire(used_idx()); }

uint32_t DriverRing::allocate(uint32_t* offsets, uint32_t count) {
  uint32_t taken = 0;
  for (; taken < count && !free_buffers_.empty(); taken++) {
    uint32_t buffer = free_buffers_.back();
    free_buffers_.pop_back();
    owner_[buffer] = Owner::kUser;
    offsets[taken] = buffer * config_.buffer_size;
  }
  return taken;
}

// All of them, or none.
Result<void> DriverRing::release(const uint32_t* offsets, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t buffer = offsets[i] / config_.buffer_size;
    if (buffer >= config_.buffer_count || owner_[buffer] != Owner::kUser) {
      for (uint32_t marked = 0; marked < i; marked++) owner_[offsets[marked] / config_.buffer_size] = Owner::kUser;
      return misused("released a buffer at offset " + std::to_string(offsets[i]) + " that is not the caller's");
    }
    owner_[buffer] = Owner::kBurst;
  }
  for (uint32_t i = 0; i < count; i++) {
    uint32_t buffer = offsets[i] / config_.buffer_size;
    owner_[buffer] = Owner::kPool;
    free_buffers_.push_back(buffer);
  }
  return {};
}

// Marks the buffers of the burst, so that one that stands in it twice is found; the marks are taken back on failure.
Result<void> DriverRing::check_burst(const Burst& burst) {
  size_t segment = 0;
  std::string problem;
  for (size_t packet = 0; packet < burst.packets && problem.empty(); packet++) {
    size_t count = burst.segments[packet];
    if (count < 1 || count > config_.max_segments || count > burst.segment_count - segment) {
      problem = "packet " + std::to_string(packet) + " has " + std::to_string(count) + " segments";
      break;
    }
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++, segment++) {
      uint32_t offset = burst.offsets[segment];
      uint32_t length = burst.lengths[segment];
      uint32_t buffer = offset / config_.buffer_size;
      bool fits = length >= 1 && buffer < config_.buffer_count &&
                  offset % config_.buffer_size + uint64_t{length} <= config_.buffer_size;
      if (!fits || owner_[buffer] != Owner::kUser) {
        problem = "segment at offset " + std::to_string(offset) + ", length " + std::to_string(length) +
                  (fits ? ", is not the caller's" : ", is not within one buffer of the pool");
        break;
      }
      owner_[buffer] = Owner::kBurst;
      total += length;
    }
    // vhost drops what is shorter than an Ethernet header, and spins on what is shorter than the virtio header.
    if (problem.empty() && total < config_.vnet_hdr_len + 14)
      problem = "packet " + std::to_string(packet) + " is shorter than a virtio and an Ethernet header";
  }
  if (problem.empty()) return {};
  for (size_t i = 0; i < segment; i++) owner_[burst.offsets[i] / config_.buffer_size] = Owner::kUser;
  return misused(problem);
}

void DriverRing::make_available(const uint32_t* offsets, const uint32_t* lengths, uint32_t count) {
  uint16_t direction = config_.device_writes ? kWrite : 0;
  uint16_t head = free_descriptors_.back();
  Segment* record = &segments_[size_t{head} * config_.max_segments];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t buffer = offsets[i] / config_.buffer_size;
    owner_[buffer] = Owner::kRing;
    record[i] = {buffer, lengths[i]};
  }
  segment_count_[head] = static_cast<uint16_t>(count);

  if (config_.indirect && count > 1) {
    free_descriptors_.pop_back();
    size_t table_offset = config_.indirect_tables + size_t{head} * config_.max_segments * sizeof(Descriptor);
    auto* table = reinterpret_cast<Descriptor*>(memory_ + table_offset);
    for (uint32_t i = 0; i < count; i++) {
      bool last = i + 1 == count;
      table[i] = {guest_address_of(config_.pool + offsets[i]), lengths[i],
                  static_cast<uint16_t>(direction | (last ? 0 : kNext)), static_cast<uint16_t>(last ? 0 : i + 1)};
    }
    desc_[head] = {guest_address_of(table_offset), static_cast<uint32_t>(count * sizeof(Descriptor)), kIndirect, 0};
    chain_length_[head] = 1;
  } else {
    uint16_t at = head;
    for (uint32_t i = 0; i < count; i++) {
      bool last = i + 1 == count;
      free_descriptors_.pop_back();
      uint16_t next = last ? 0 : free_descriptors_.back();
      desc_[at] = {guest_address_of(config_.pool + offsets[i]), lengths[i],
                   static_cast<uint16_t>(direction | (last ? 0 : kNext)), next};
      next_[at] = next;
      at = next;
    }
    chain_length_[head] = static_cast<uint16_t>(count);
  }
  *avail_ring(next_available_ & (config_.num - 1)) = head;
  next_available_++;
  counters_.available++;
}

void DriverRing::return_descriptors(uint16_t head) {
  uint16_t at = head;
  for (uint16_t left = chain_length_[head]; left > 0; left--) {
    free_descriptors_.push_back(at);
    at = next_[at];
  }
  chain_length_[head] = 0;
}

// Virtio 1.x section 2.7.13: entries, then idx, then a full barrier, then the device's wish to be notified.
Result<void> DriverRing::publish() {
  if (next_available_ == last_published_) return {};
  store_release(avail_idx(), next_available_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bool wanted = config_.event_idx ? need_event(load_acquire(avail_event()), next_available_, last_published_)
                                  : !(load_acquire(used_flags()) & kUsedNoNotify);
  last_published_ = next_available_;
  if (!wanted) {
    counters_.kicks_suppressed++;
    return {};
  }
  counters_.kicks++;
  return eventfd_write(config_.kick, 1);
}

Result<uint32_t> DriverRing::send(const Burst& burst) {
  if (auto checked = check_burst(burst); !checked.ok()) return checked.error();
  uint32_t packet = 0;
  size_t segment = 0;
  for (; packet < burst.packets; packet++) {
    uint32_t count = burst.segments[packet];
    uint32_t needed = config_.indirect && count > 1 ? 1 : count;
    if (free_descriptors_.size() < needed) break;
    make_available(burst.offsets + segment, burst.lengths + segment, count);
    segment += count;
  }
  for (uint32_t rest = packet; rest < burst.packets; rest++)
    for (uint32_t i = 0; i < burst.segments[rest]; i++, segment++)
      owner_[burst.offsets[segment] / config_.buffer_size] = Owner::kUser;
  if (auto published = publish(); !published.ok()) return published.error();
  return packet;
}

uint16_t DriverRing::pending() const { return static_cast<uint16_t>(load_acquire(used_idx()) - last_used_); }

// The device's memory is read once, and checked before it is believed.
Result<DriverRing::UsedElement> DriverRing::peek_used(uint16_t ahead) const {
  UsedElement element;
  std::memcpy(&element, used_ring((last_used_ + ahead) & (config_.num - 1)), sizeof element);
  if (element.id >= config_.num || chain_length_[element.id] == 0)
    return broken("the device returned descriptor " + std::to_string(element.id) + ", which it did not have");
  return element;
}

Result<uint32_t> DriverRing::reclaim() {
  uint16_t count = pending();
  if (count > config_.num) return broken("used.idx moved by more than the ring size");
  for (uint16_t i = 0; i < count; i++) {
    auto element = peek_used(0);
    if (!element.ok()) return element.error();
    auto head = static_cast<uint16_t>(element.value().id);
    const Segment* record = &segments_[size_t{head} * config_.max_segments];
    uint64_t total = 0;
    for (uint32_t s = 0; s < segment_count_[head]; s++) {
      owner_[record[s].buffer] = Owner::kPool;
      free_buffers_.push_back(record[s].buffer);
      total += record[s].length;
    }
    return_descriptors(head);
    last_used_++;
    counters_.used++;
    counters_.frames++;
    counters_.bytes += total - config_.vnet_hdr_len;
  }
  if (count > 0) disarm();
  return count;
}

Result<uint32_t> DriverRing::post() {
  uint32_t posted = 0;
  for (; !free_buffers_.empty() && !free_descriptors_.empty(); posted++) {
    uint32_t offset = free_buffers_.back() * config_.buffer_size;
    free_buffers_.pop_back();
    make_available(&offset, &config_.buffer_size, 1);
  }
  if (auto published = publish(); !published.ok()) return published.error();
  return posted;
}

// How many buffers the next packet has, once everything the device said of them was found to be in order.
Result<uint16_t> DriverRing::check_received() const {
  uint16_t available = pending();
  if (available > config_.num) return broken("used.idx moved by more than the ring size");
  uint16_t buffers = 1;
  for (uint16_t i = 0; i < buffers; i++) {
    auto element = peek_used(i);
    if (!element.ok()) return element.error();
    auto [id, length] = element.value();
    if (length > config_.buffer_size || (i == 0 && length < config_.vnet_hdr_len))
      return broken("the device wrote " + std::to_string(length) + " bytes to a buffer of " +
                    std::to_string(config_.buffer_size));
    if (i > 0 || !config_.mrg_rxbuf) continue;
    uint32_t buffer = segments_[size_t{id} * config_.max_segments].buffer;
    std::memcpy(&buffers, pool_ + size_t{buffer} * config_.buffer_size + kNumBuffersOffset, sizeof buffers);
    // A packet's buffers are used together (5.1.6.4.1): one move of used.idx shows all of them.
    if (buffers < 1 || buffers > available)
      return broken("a received packet says it has " + std::to_string(buffers) + " buffers, and " +
                    std::to_string(available) + " were used");
  }
  return buffers;
}

// Packets in front of one that is not in order are received; the next call fails.
Result<uint32_t> DriverRing::receive(const Burst& burst) {
  uint32_t packet = 0;
  size_t segment = 0;
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
    uint64_t total = 0;
    for (uint16_t i = 0; i < buffers; i++) {
      // Looked at again, since an earlier buffer of this packet may have been the same one.
      auto element = peek_used(0);
      if (!element.ok()) return element.error();
      auto head = static_cast<uint16_t>(element.value().id);
      uint32_t buffer = segments_[size_t{head} * config_.max_segments].buffer;
      burst.offsets[segment] = buffer * config_.buffer_size;
      burst.lengths[segment] = std::min(element.value().length, config_.buffer_size);
      total += burst.lengths[segment++];
      owner_[buffer] = Owner::kUser;
      return_descriptors(head);
      last_used_++;
      counters_.used++;
    }
    burst.segments[packet++] = buffers;
    counters_.frames++;
    counters_.bytes += total - config_.vnet_hdr_len;
  }
  if (packet > 0) disarm();
  return packet;
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

}  // namespace vhostnet
