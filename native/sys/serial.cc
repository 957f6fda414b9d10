#include "sys/serial.h"

#include <algorithm>
#include <utility>

#include "sys/eventfd.h"

namespace vhostnet {

namespace {

enum Register : uint8_t {
  kData,
  kInterruptEnable,
  kInterruptId,
  kLineControl,
  kModemControl,
  kLineStatus,
  kModemStatus,
  kScratch
};

constexpr uint8_t kEnableReceived = 1;
constexpr uint8_t kEnableTransmitterEmpty = 2;
constexpr uint8_t kNoInterrupt = 1;
constexpr uint8_t kTransmitterEmpty = 2;
constexpr uint8_t kReceived = 4;
constexpr uint8_t kFifosEnabled = 0xc0;
constexpr uint8_t kEnableFifo = 1;
constexpr uint8_t kClearReceiver = 2;
constexpr uint8_t kDivisorLatch = 0x80;
constexpr uint8_t kDataReady = 1;
constexpr uint8_t kTransmitterIdle = 0x60;
constexpr uint8_t kLoop = 0x10;
// Carrier, ready and clear to send.
constexpr uint8_t kConnected = 0xb0;

// The counter cannot run over: each edge is taken by KVM at once.
void signal(const UniqueFd& event) { static_cast<void>(eventfd_write(event.get(), 1).ok()); }

}  // namespace

uint8_t Serial::line_status() const {
  return static_cast<uint8_t>((input_bytes_.empty() ? 0 : kDataReady) | (has_room() ? kTransmitterIdle : 0));
}

// In loop-back each output is the input that belongs to it.
uint8_t Serial::modem_status() const {
  if (!(modem_control_ & kLoop)) return kConnected;
  return static_cast<uint8_t>((modem_control_ & 2) << 3 | (modem_control_ & 1) << 5 | (modem_control_ & 0x0c) << 4);
}

uint8_t Serial::pending_interrupt() const {
  if ((interrupt_enable_ & kEnableReceived) && !input_bytes_.empty()) return kReceived;
  if ((interrupt_enable_ & kEnableTransmitterEmpty) && transmitter_empty_pending_ && has_room())
    return kTransmitterEmpty;
  return kNoInterrupt;
}

uint32_t Serial::read(uint64_t offset, uint32_t width) {
  std::unique_lock lock(mutex_);
  uint32_t value = 0;
  for (uint32_t i = 0; i < width; i++) value |= uint32_t{read_register(offset + i)} << (8 * i);
  raised_ = pending_interrupt() != kNoInterrupt;
  return value;
}

void Serial::write(uint64_t offset, uint32_t width, uint32_t value) {
  std::unique_lock lock(mutex_);
  for (uint32_t i = 0; i < width; i++) write_register(offset + i, static_cast<uint8_t>(value >> (8 * i)));
  bool pending = pending_interrupt() != kNoInterrupt;
  // What is sent is sent at once, so that each byte is followed by an edge of its own.
  if (pending) signal(interrupt_);
  raised_ = pending;
}

uint8_t Serial::read_register(uint64_t offset) {
  switch (offset) {
    case kData: {
      if (line_control_ & kDivisorLatch) return static_cast<uint8_t>(divisor_);
      if (input_bytes_.empty()) return 0;
      uint8_t byte = input_bytes_.front();
      input_bytes_.pop_front();
      make_room();
      return byte;
    }
    case kInterruptEnable:
      return line_control_ & kDivisorLatch ? static_cast<uint8_t>(divisor_ >> 8) : interrupt_enable_;
    case kInterruptId: {
      uint8_t pending = pending_interrupt();
      if (pending == kTransmitterEmpty) transmitter_empty_pending_ = false;
      return static_cast<uint8_t>(pending | (fifo_control_ & kEnableFifo ? kFifosEnabled : 0));
    }
    case kLineControl:
      return line_control_;
    case kModemControl:
      return modem_control_;
    case kLineStatus:
      return line_status();
    case kModemStatus:
      return modem_status();
    default:
      return scratch_;
  }
}

void Serial::write_register(uint64_t offset, uint8_t value) {
  switch (offset) {
    case kData:
      if (line_control_ & kDivisorLatch)
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff00) | value);
      else if (modem_control_ & kLoop)
        receive(value);
      else
        transmit(value);
      return;
    case kInterruptEnable:
      if (line_control_ & kDivisorLatch) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff) | value << 8);
        return;
      }
      if (!(interrupt_enable_ & kEnableTransmitterEmpty) && (value & kEnableTransmitterEmpty))
        transmitter_empty_pending_ = true;
      interrupt_enable_ = value & 0x0f;
      return;
    case kInterruptId:
      fifo_control_ = value;
      if (value & kClearReceiver) {
        input_bytes_.clear();
        make_room();
      }
      return;
    case kLineControl:
      line_control_ = value;
      return;
    case kModemControl:
      modem_control_ = value & 0x1f;
      return;
    case kScratch:
      scratch_ = value;
      return;
    default:
      return;
  }
}

void Serial::receive(uint8_t byte) {
  if (input_bytes_.size() < kMostInput) input_bytes_.push_back(byte);
}

// Once half is free, so that not every byte that is read wakes who waits for room.
void Serial::make_room() {
  if (!refused_ || input_bytes_.size() > kMostInput / 2) return;
  refused_ = false;
  signal(ready_);
}

// A guest that did not ask whether there is room loses the byte, as on a line that is too slow.
void Serial::transmit(uint8_t byte) {
  transmitter_empty_pending_ = true;
  if (!has_room()) return;
  if (output_bytes_.empty()) signal(ready_);
  output_bytes_.push_back(static_cast<char>(byte));
}

std::string Serial::take() {
  std::unique_lock lock(mutex_);
  bool had_room = has_room();
  std::string taken = std::exchange(output_bytes_, {});
  if (!had_room && pending_interrupt() != kNoInterrupt) signal(interrupt_);
  return taken;
}

size_t Serial::put(std::span<const uint8_t> bytes) {
  std::unique_lock lock(mutex_);
  size_t count = std::min(bytes.size(), kMostInput - input_bytes_.size());
  for (uint8_t byte : bytes.first(count)) receive(byte);
  refused_ = count < bytes.size();
  if (count > 0 && pending_interrupt() == kReceived && !raised_) {
    signal(interrupt_);
    raised_ = true;
  }
  return count;
}

}  // namespace vhostnet
