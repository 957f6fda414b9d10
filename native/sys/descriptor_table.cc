#include "sys/descriptor_table.h"

#include <cstring>

namespace vhostnet {

namespace {

constexpr uint16_t kNext = 1;      // VIRTQ_DESC_F_NEXT
constexpr uint16_t kWrite = 2;     // VIRTQ_DESC_F_WRITE
constexpr uint16_t kIndirect = 4;  // VIRTQ_DESC_F_INDIRECT

}  // namespace

DescriptorTable::DescriptorTable(const Config& config)
    : config_(config),
      desc_(reinterpret_cast<Descriptor*>(config.memory + config.desc)),
      direction_(config.device_writes ? kWrite : 0),
      free_(config.num),
      next_(config.num),
      chains_(config.num),
      buffers_(size_t{config.num} * config.max_segments) {
  std::memset(desc_, 0, sizeof(Descriptor) * config.num);
  for (uint32_t i = config.num; i-- > 0;) free_[free_count_++] = static_cast<uint16_t>(i);
}

uint16_t DescriptorTable::make(const BufferPool& pool, const uint32_t* offsets, const uint32_t* lengths,
                               uint32_t count) {
  uint16_t head = free_[--free_count_];
  uint32_t* buffers = &buffers_[size_t{head} * config_.max_segments];
  uint32_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    buffers[i] = pool.buffer_of(offsets[i]);
    bytes += lengths[i];
  }
  uint32_t descriptors = needed(count);
  if (descriptors < count)
    write_indirect(head, offsets, lengths, count);
  else
    write_chain(head, offsets, lengths, count);
  chains_[head] = {static_cast<uint16_t>(descriptors), static_cast<uint16_t>(count), bytes};
  return head;
}

void DescriptorTable::make_singles(const BufferPool& pool, const uint32_t* offsets, const uint32_t* lengths,
                                   uint32_t count, uint16_t* heads) {
  // In registers: what the loop writes to could be these, for all that the compiler knows.
  Descriptor* desc = desc_;
  Chain* chains = chains_.data();
  uint32_t* buffers = buffers_.data();
  const uint16_t* top = &free_[free_count_];
  const uint64_t pool_address = guest_address_of(config_.pool);
  const uint32_t buffer_size = pool.buffer_size();
  const size_t max_segments = config_.max_segments;
  const uint16_t direction = direction_;
  for (uint32_t i = 0; i < count; i++) {
    uint16_t head = *--top;
    desc[head] = {pool_address + offsets[i], lengths[i], direction, 0};
    chains[head] = {1, 1, lengths[i]};
    buffers[head * max_segments] = offsets[i] / buffer_size;
    heads[i] = head;
  }
  free_count_ -= count;
}

void DescriptorTable::write_chain(uint16_t head, const uint32_t* offsets, const uint32_t* lengths, uint32_t count) {
  uint16_t at = head;
  for (uint32_t i = 0; i < count; i++) {
    bool last = i + 1 == count;
    uint16_t next = last ? 0 : free_[--free_count_];
    desc_[at] = {guest_address_of(config_.pool + offsets[i]), lengths[i],
                 static_cast<uint16_t>(direction_ | (last ? 0 : kNext)), next};
    next_[at] = next;
    at = next;
  }
}

void DescriptorTable::write_indirect(uint16_t head, const uint32_t* offsets, const uint32_t* lengths, uint32_t count) {
  size_t table_offset = config_.indirect_tables + size_t{head} * config_.max_segments * sizeof(Descriptor);
  auto* table = reinterpret_cast<Descriptor*>(config_.memory + table_offset);
  for (uint32_t i = 0; i < count; i++) {
    bool last = i + 1 == count;
    table[i] = {guest_address_of(config_.pool + offsets[i]), lengths[i],
                static_cast<uint16_t>(direction_ | (last ? 0 : kNext)), static_cast<uint16_t>(last ? 0 : i + 1)};
  }
  desc_[head] = {guest_address_of(table_offset), static_cast<uint32_t>(count * sizeof(Descriptor)), kIndirect, 0};
}

}  // namespace vhostnet
