#include "sys/rtc.h"

#include <ctime>

namespace vhostnet {

namespace {

constexpr uint8_t kStatusA = 0x0a;
constexpr uint8_t kStatusB = 0x0b;
constexpr uint8_t kStatusD = 0x0d;
constexpr uint8_t kCentury = 0x32;
// A divider that runs, and no update in progress; 24 hours and BCD; the battery is good.
constexpr uint8_t kRunning = 0x26;
constexpr uint8_t k24Hours = 0x02;
constexpr uint8_t kValid = 0x80;

uint8_t bcd(int value) { return static_cast<uint8_t>(value / 10 << 4 | value % 10); }

uint8_t read_cmos(uint8_t index) {
  std::time_t now = std::time(nullptr);
  std::tm time;
  ::gmtime_r(&now, &time);
  switch (index) {
    case 0:
      return bcd(time.tm_sec);
    case 2:
      return bcd(time.tm_min);
    case 4:
      return bcd(time.tm_hour);
    case 6:
      return bcd(time.tm_wday + 1);
    case 7:
      return bcd(time.tm_mday);
    case 8:
      return bcd(time.tm_mon + 1);
    case 9:
      return bcd(time.tm_year % 100);
    case kStatusA:
      return kRunning;
    case kStatusB:
      return k24Hours;
    case kStatusD:
      return kValid;
    case kCentury:
      return bcd(19 + time.tm_year / 100);
    default:
      return 0;
  }
}

}  // namespace

uint32_t Rtc::read(uint64_t offset, uint32_t) { return offset == 0 ? index_.load() : read_cmos(index_); }

// Bit 7 of the index switches the non-maskable interrupt, which there is none of.
void Rtc::write(uint64_t offset, uint32_t, uint32_t value) {
  if (offset == 0) index_ = value & 0x7f;
}

}  // namespace vhostnet
