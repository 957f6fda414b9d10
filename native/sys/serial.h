// A 16550A serial port (National Semiconductor PC16550D data sheet): bytes of the guest out, bytes for it in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "sys/guest_bus.h"
#include "sys/unique_fd.h"

namespace vhostnet {

class Serial final : public NativeRegisters {
 public:
  static constexpr uint64_t kSize = 8;

  // Both are eventfds: `interrupt` is signalled for each edge of the interrupt, `ready` when there is something to take
  // where there was nothing, and when there is room again for what `put` had none for.
  Serial(UniqueFd interrupt, UniqueFd ready) : interrupt_(std::move(interrupt)), ready_(std::move(ready)) {}

  uint32_t read(uint64_t offset, uint32_t width) override;
  void write(uint64_t offset, uint32_t width, uint32_t value) override;

  // What the guest wrote since. While too much of it waits the port has no room, and the guest waits.
  std::string take();
  // How many bytes it had room for.
  size_t put(std::span<const uint8_t> bytes);

 private:
  bool has_room() const { return output_bytes_.size() < kMostOutput; }
  uint8_t line_status() const;
  uint8_t modem_status() const;
  uint8_t pending_interrupt() const;
  uint8_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint8_t value);
  void receive(uint8_t byte);
  void make_room();
  void transmit(uint8_t byte);

  static constexpr size_t kMostOutput = 65536;
  static constexpr size_t kMostInput = 4096;

  const UniqueFd interrupt_;
  const UniqueFd ready_;
  std::mutex mutex_;
  std::string output_bytes_;
  std::deque<uint8_t> input_bytes_;
  bool refused_ = false;
  bool transmitter_empty_pending_ = false;
  bool raised_ = false;
  uint8_t interrupt_enable_ = 0;
  uint8_t fifo_control_ = 0;
  uint8_t line_control_ = 0;
  uint8_t modem_control_ = 0;
  uint8_t scratch_ = 0;
  uint16_t divisor_ = 1;
};

}  // namespace vhostnet
