// A clock in CMOS (Motorola MC146818), which shows the host's time in UTC and takes nothing.
#pragma once

#include <atomic>
#include <cstdint>

#include "sys/guest_bus.h"

namespace vhostnet {

class Rtc final : public NativeRegisters {
 public:
  static constexpr uint64_t kSize = 2;

  uint32_t read(uint64_t offset, uint32_t width) override;
  void write(uint64_t offset, uint32_t width, uint32_t value) override;

 private:
  std::atomic<uint8_t> index_ = 0;
};

}  // namespace vhostnet
