// Registers that are served natively, as handles.
#pragma once

#include <memory>

#include "sys/interrupt_status.h"
#include "sys/serial.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

class RegistersHandle final : public Handle {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "registers";
  RegistersHandle(Napi::Env env, std::shared_ptr<NativeRegisters> served, uint64_t bytes)
      : Handle(env), registers(std::move(served)), size(bytes) {}

  std::shared_ptr<NativeRegisters> registers;
  uint64_t size;
  // The same, where it is one.
  std::shared_ptr<Serial> serial;
  std::shared_ptr<InterruptStatus> interrupt_status;

 private:
  void release() override {
    // What it maps is let go of on this thread: a vCPU's may still be at it.
    if (interrupt_status) interrupt_status->reset();
    registers.reset();
    serial.reset();
    interrupt_status.reset();
  }
};

}  // namespace vhostnet::wrap
