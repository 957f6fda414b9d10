// The descriptors of a driver's split ring (virtio 1.x section 2.7.5), and the chains that are made of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sys/buffer_pool.h"

namespace vhostnet {

class DescriptorTable {
 public:
  // Offsets are bytes into `memory`, whose first byte has the guest-physical address `guest_address`.
  struct Config {
    uint8_t* memory;
    uint64_t guest_address;
    uint32_t num;
    size_t desc;
    size_t indirect_tables;
    size_t pool;
    uint32_t max_segments;
    bool device_writes;
    bool indirect;
  };
  // A chain that was made, by its head.
  struct Chain {
    uint16_t descriptors;  // of the table that it takes; 0 = there is none
    uint16_t segments;
    uint32_t bytes;
  };
  struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
  };

  explicit DescriptorTable(const Config& config);

  uint32_t free() const { return free_count_; }
  uint32_t needed(uint32_t segments) const { return config_.indirect && segments > 1 ? 1 : segments; }

  // Makes a chain and returns its head. needed(count) descriptors must be free; offsets are into the pool.
  uint16_t make(const BufferPool& pool, const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  // Makes chains of one segment each, and writes their heads.
  void make_singles(const BufferPool& pool, const uint32_t* offsets, const uint32_t* lengths, uint32_t count,
                    uint16_t* heads);

  // Whatever the device says: whether a chain begins there.
  bool begins(uint32_t id) const { return id < config_.num && chains_[id].descriptors > 0; }
  const Chain& chain(uint16_t head) const { return chains_[head]; }
  const uint32_t* buffers_of(uint16_t head) const { return &buffers_[size_t{head} * config_.max_segments]; }

  // Frees a chain's descriptors.
  void give_back(uint16_t head) {
    free_[free_count_++] = head;
    uint16_t at = head;
    for (uint16_t left = chains_[head].descriptors; left > 1; left--) {
      at = next_[at];
      free_[free_count_++] = at;
    }
    chains_[head].descriptors = 0;
  }
  // Undoes make() until so many descriptors are free: what was popped is still in the stack's array.
  void take_back(uint32_t free) {
    while (free_count_ < free) chains_[free_[free_count_++]].descriptors = 0;
  }

 private:
  uint64_t guest_address_of(size_t offset) const { return config_.guest_address + offset; }
  void write_chain(uint16_t head, const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  void write_indirect(uint16_t head, const uint32_t* offsets, const uint32_t* lengths, uint32_t count);

  Config config_;
  Descriptor* desc_;
  uint16_t direction_;

  // What the driver knows is kept here: what the device could write to is never read back.
  std::vector<uint16_t> free_;  // a stack
  uint32_t free_count_ = 0;
  std::vector<uint16_t> next_;     // by descriptor: the next one of its chain
  std::vector<Chain> chains_;      // by head
  std::vector<uint32_t> buffers_;  // by head times max_segments
};

}  // namespace vhostnet
