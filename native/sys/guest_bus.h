// What lies at the addresses at which a guest leaves its processor: ports, and memory that is none.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>

#include "sys/result.h"

namespace vhostnet {

// Registers that are served on the thread of the vCPU; several may be at them at once. A width is 1, 2 or 4 bytes.
class NativeRegisters {
 public:
  virtual ~NativeRegisters() = default;
  virtual uint32_t read(uint64_t offset, uint32_t width) = 0;
  virtual void write(uint64_t offset, uint32_t width, uint32_t value) = 0;
};

class GuestBus {
 public:
  enum class Space : uint8_t { kPorts, kMemory };

  // Its bytes from `native_offset` on are served by `registers`; the others by whoever knows what `id` is.
  struct Window {
    uint64_t size;
    uint32_t id;
    std::shared_ptr<NativeRegisters> registers;
    uint64_t native_offset;
    uint64_t native_size;

    // All of the access is.
    bool is_native(uint64_t offset, uint32_t width) const {
      return offset >= native_offset && offset - native_offset < native_size &&
             width <= native_size - (offset - native_offset);
    }
  };
  struct Place {
    Window window;
    uint64_t offset;
  };

  // EEXIST: it overlaps another. EINVAL: it is empty, or ends beyond the space.
  Result<void> add(Space space, uint64_t address, Window window);
  // ENOENT: none begins there. An access that found it before may still be served.
  Result<void> remove(Space space, uint64_t address);
  // Where all of an access lies.
  std::optional<Place> find(Space space, uint64_t address, uint32_t width) const;

 private:
  using Windows = std::map<uint64_t, Window>;
  Windows& windows(Space space) { return space == Space::kPorts ? ports_ : memory_; }

  mutable std::shared_mutex mutex_;
  Windows ports_;
  Windows memory_;
};

}  // namespace vhostnet
