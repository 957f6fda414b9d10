#include "sys/guest_bus.h"

#include <iterator>
#include <mutex>
#include <utility>

namespace vhostnet {

namespace {

constexpr uint64_t kPorts = 0x10000;

}  // namespace

Result<void> GuestBus::add(Space space, uint64_t address, Window window) {
  uint64_t last = address + (window.size - 1);
  if (window.size == 0 || last < address || (space == Space::kPorts && last >= kPorts))
    return Error{EINVAL, "bus", "a window has at least one byte, and ends within its space"};
  std::unique_lock lock(mutex_);
  Windows& all = windows(space);
  auto next = all.upper_bound(last);
  if (next != all.begin()) {
    const auto& [begin, before] = *std::prev(next);
    if (begin + (before.size - 1) >= address) return Error{EEXIST, "bus", "another window lies there"};
  }
  all.emplace(address, std::move(window));
  return {};
}

Result<void> GuestBus::remove(Space space, uint64_t address) {
  std::unique_lock lock(mutex_);
  if (windows(space).erase(address) == 0) return Error{ENOENT, "bus", "no window begins there"};
  return {};
}

std::optional<GuestBus::Place> GuestBus::find(Space space, uint64_t address, uint32_t width) const {
  std::shared_lock lock(mutex_);
  const Windows& all = space == Space::kPorts ? ports_ : memory_;
  auto next = all.upper_bound(address);
  if (next == all.begin()) return std::nullopt;
  const auto& [begin, window] = *std::prev(next);
  uint64_t offset = address - begin;
  if (offset >= window.size || width > window.size - offset) return std::nullopt;
  return Place{window, offset};
}

}  // namespace vhostnet
