// CONFIG_ADDRESS of configuration mechanism #1 (PCI 3.0 section 3.2.2.3.2): where in configuration space the next
// access of CONFIG_DATA goes. A guest writes it before each of these.
#pragma once

#include <atomic>
#include <cstdint>

#include "sys/guest_bus.h"

namespace vhostnet {

class ConfigAddress final : public NativeRegisters {
 public:
  static constexpr uint64_t kSize = 4;

  // Accesses of 32 bits only: smaller ones there are not its own, and read as ones.
  uint32_t read(uint64_t, uint32_t width) override { return width == 4 ? address_.load() : ~0u >> (32 - 8 * width); }
  void write(uint64_t, uint32_t width, uint32_t value) override {
    if (width == 4) address_ = value & kWritable;
  }

 private:
  // The others are 0.
  static constexpr uint32_t kWritable = 0x80fffffc;

  std::atomic<uint32_t> address_ = 0;
};

}  // namespace vhostnet
