// Equal buffers side by side in guest memory, and who has each: nobody, the caller, or the ring.
#pragma once

#include <cstdint>
#include <vector>

namespace vhostnet {

class BufferPool {
 public:
  BufferPool(uint32_t count, uint32_t buffer_size) : buffer_size_(buffer_size), owner_(count), free_(count) {
    for (uint32_t buffer = count; buffer-- > 0;) give(buffer);
  }

  uint32_t buffer_size() const { return buffer_size_; }
  uint32_t free() const { return free_count_; }
  uint32_t buffer_of(uint32_t offset) const { return offset / buffer_size_; }
  uint32_t offset_of(uint32_t buffer) const { return buffer * buffer_size_; }

  // Whether the bytes are the caller's, all of them in one buffer.
  bool callers(uint32_t offset, uint32_t length) const {
    uint32_t buffer = buffer_of(offset);
    return buffer < owner_.size() && owner_[buffer] == Owner::kCaller &&
           uint64_t{offset - offset_of(buffer)} + length <= buffer_size_;
  }

  // From nobody to the caller; one must be free.
  uint32_t take() {
    uint32_t buffer = free_[--free_count_];
    owner_[buffer] = Owner::kCaller;
    return buffer;
  }
  // From anybody to nobody.
  void give(uint32_t buffer) {
    owner_[buffer] = Owner::kNobody;
    free_[free_count_++] = buffer;
  }
  void lend_to_ring(uint32_t buffer) { owner_[buffer] = Owner::kRing; }
  // Lends buffers of the caller's with so many bytes in them each, up to the first that is not in order or has fewer
  // than `smallest`. Returns their number.
  uint32_t lend(const uint32_t* offsets, const uint32_t* lengths, uint32_t count, uint32_t smallest) {
    uint32_t lent = 0;
    for (; lent < count && lengths[lent] >= smallest && callers(offsets[lent], lengths[lent]); lent++)
      lend_to_ring(buffer_of(offsets[lent]));
    return lent;
  }
  void back_to_caller(uint32_t buffer) { owner_[buffer] = Owner::kCaller; }
  // Undoes the latest `count` calls of give(): the buffers are the caller's again.
  void take_back(uint32_t count) {
    while (count-- > 0) take();
  }

 private:
  enum class Owner : uint8_t { kNobody, kCaller, kRing };

  uint32_t buffer_size_;
  uint32_t free_count_ = 0;
  std::vector<Owner> owner_;
  std::vector<uint32_t> free_;  // a stack: what was used last is warm
};

}  // namespace vhostnet
