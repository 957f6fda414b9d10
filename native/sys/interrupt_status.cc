#include "sys/interrupt_status.h"

#include <atomic>
#include <utility>

namespace vhostnet {

namespace {

constexpr uint64_t kStatus = 0;
constexpr uint64_t kAcknowledge = 4;
// VIRTIO_MMIO_INT_VRING and VIRTIO_MMIO_INT_CONFIG.
constexpr uint32_t kVring = 1;
constexpr uint32_t kConfig = 2;

}  // namespace

uint16_t InterruptStatus::Queue::used_index() const {
  if (!memory) return used;
  auto* index = reinterpret_cast<uint16_t*>(memory->address() + offset);
  return std::atomic_ref(*index).load(std::memory_order_acquire);
}

uint32_t InterruptStatus::read(uint64_t offset, uint32_t width) {
  if (offset != kStatus || width != 4) return 0;
  std::unique_lock lock(mutex_);
  return status();
}

void InterruptStatus::write(uint64_t offset, uint32_t width, uint32_t value) {
  if (offset != kAcknowledge || width != 4) return;
  std::unique_lock lock(mutex_);
  acknowledge(value);
}

uint32_t InterruptStatus::status() {
  config_.shown = config_.pending;
  uint32_t config = config_.pending ? kConfig : 0;
  if (!started_) return config;
  left_.shown = left_.pending;
  bool moved = left_.pending;
  for (Queue& queue : queues_) {
    if (!queue.enabled) continue;
    queue.shown = queue.used_index();
    moved = moved || queue.shown != queue.acknowledged;
  }
  return config | (moved ? kVring : 0);
}

void InterruptStatus::acknowledge(uint32_t bits) {
  if ((bits & kConfig) && config_.shown) config_ = {};
  if (!(bits & kVring)) return;
  if (left_.shown) left_ = {};
  for (Queue& queue : queues_) queue.acknowledged = queue.shown;
}

void InterruptStatus::set_started(bool started) {
  std::unique_lock lock(mutex_);
  started_ = started;
}

void InterruptStatus::begin(size_t queue, std::shared_ptr<Mapping> memory, uint64_t offset) {
  std::unique_lock lock(mutex_);
  queues_[queue] = {.enabled = true, .memory = std::move(memory), .offset = offset};
}

void InterruptStatus::set_used(size_t queue, uint16_t used) {
  std::unique_lock lock(mutex_);
  queues_[queue].used = used;
}

void InterruptStatus::end(size_t queue) {
  std::unique_lock lock(mutex_);
  Queue& ended = queues_[queue];
  if (ended.enabled && ended.used_index() != ended.acknowledged) left_ = {.pending = true};
  ended = {};
}

void InterruptStatus::config_changed() {
  std::unique_lock lock(mutex_);
  config_ = {.pending = true};
}

void InterruptStatus::reset() {
  std::unique_lock lock(mutex_);
  for (Queue& queue : queues_) queue = {};
  started_ = false;
  left_ = {};
  config_ = {};
}

}  // namespace vhostnet
