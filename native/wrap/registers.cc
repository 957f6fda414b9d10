// Registers that are served natively, for JavaScript.
#include "wrap/registers.h"

#include <algorithm>

#include "sys/config_address.h"
#include "sys/file.h"
#include "sys/rtc.h"
#include "wrap/convert.h"
#include "wrap/exports.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

Value create_serial(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto interrupt = value_or_throw(env, duplicate(to_fd(info[0])));
  auto ready = value_or_throw(env, duplicate(to_fd(info[1])));
  auto serial = std::make_shared<Serial>(std::move(interrupt), std::move(ready));
  auto handle = std::make_unique<RegistersHandle>(env, serial, Serial::kSize);
  handle->serial = std::move(serial);
  return from_handle(env, std::move(handle));
}

Serial& to_serial(const Value& value) {
  RegistersHandle& handle = to_open_handle<RegistersHandle>(value);
  if (!handle.serial) throw_wrong_type(value.Env(), "serial", "is not a serial port");
  return *handle.serial;
}

Value take(const CallbackInfo& info) {
  std::string bytes = to_serial(info[0]).take();
  return Napi::Buffer<char>::Copy(info.Env(), bytes.data(), bytes.size());
}

Value put(const CallbackInfo& info) {
  return from_number(info.Env(), static_cast<double>(to_serial(info[0]).put(to_bytes(info[1], "bytes"))));
}

Value create_interrupt_status(const CallbackInfo& info) {
  auto status = std::make_shared<InterruptStatus>(to_uint32(info[0], "queues"));
  auto handle = std::make_unique<RegistersHandle>(info.Env(), status, InterruptStatus::kSize);
  handle->interrupt_status = std::move(status);
  return from_handle(info.Env(), std::move(handle));
}

InterruptStatus& to_interrupt_status(const Value& value) {
  RegistersHandle& handle = to_open_handle<RegistersHandle>(value);
  if (!handle.interrupt_status) throw_wrong_type(value.Env(), "status", "is not an interrupt status");
  return *handle.interrupt_status;
}

uint32_t to_queue(const InterruptStatus& status, const Value& value) {
  uint32_t queue = to_uint32(value, "queue");
  if (queue >= status.queues()) throw_out_of_range(value.Env(), "queue", "is none of these");
  return queue;
}

Value set_started(const CallbackInfo& info) {
  to_interrupt_status(info[0]).set_started(to_bool(info[1], "started"));
  return info.Env().Undefined();
}

Value begin_queue(const CallbackInfo& info) {
  InterruptStatus& status = to_interrupt_status(info[0]);
  uint32_t queue = to_queue(status, info[1]);
  if (info[2].IsNull()) {
    status.begin(queue, nullptr, 0);
    return info.Env().Undefined();
  }
  std::shared_ptr<Mapping> memory = to_open_handle<MappingHandle>(info[2]).mapping;
  uint64_t offset = to_size(info[3], "offset");
  if (offset % 2 != 0 || !memory->contains(offset, 2)) throw_out_of_range(info.Env(), "offset", "has no index");
  status.begin(queue, std::move(memory), offset);
  return info.Env().Undefined();
}

Value set_used(const CallbackInfo& info) {
  InterruptStatus& status = to_interrupt_status(info[0]);
  status.set_used(to_queue(status, info[1]), static_cast<uint16_t>(to_uint32(info[2], "used")));
  return info.Env().Undefined();
}

Value end_queue(const CallbackInfo& info) {
  InterruptStatus& status = to_interrupt_status(info[0]);
  status.end(to_queue(status, info[1]));
  return info.Env().Undefined();
}

Value config_changed(const CallbackInfo& info) {
  to_interrupt_status(info[0]).config_changed();
  return info.Env().Undefined();
}

Value reset_status(const CallbackInfo& info) {
  to_interrupt_status(info[0]).reset();
  return info.Env().Undefined();
}

Value read_registers(const CallbackInfo& info) {
  NativeRegisters& registers = *to_open_handle<RegistersHandle>(info[0]).registers;
  return from_number(info.Env(), registers.read(to_size(info[1], "offset"), to_uint32(info[2], "width")));
}

Value write_registers(const CallbackInfo& info) {
  NativeRegisters& registers = *to_open_handle<RegistersHandle>(info[0]).registers;
  registers.write(to_size(info[1], "offset"), to_uint32(info[2], "width"), to_uint32(info[3], "value"));
  return info.Env().Undefined();
}

Value create_rtc(const CallbackInfo& info) {
  return from_handle(info.Env(), std::make_unique<RegistersHandle>(info.Env(), std::make_shared<Rtc>(), Rtc::kSize));
}

Value create_config_address(const CallbackInfo& info) {
  auto address = std::make_shared<ConfigAddress>();
  return from_handle(info.Env(), std::make_unique<RegistersHandle>(info.Env(), address, ConfigAddress::kSize));
}

Value close_registers(const CallbackInfo& info) {
  to_handle<RegistersHandle>(info[0]).close();
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"serialCreate", create_serial},
    {"serialTake", take},
    {"serialPut", put},
    {"rtcCreate", create_rtc},
    {"configAddressCreate", create_config_address},
    {"interruptStatusCreate", create_interrupt_status},
    {"interruptStatusStarted", set_started},
    {"interruptStatusBegin", begin_queue},
    {"interruptStatusUsed", set_used},
    {"interruptStatusEnd", end_queue},
    {"interruptStatusConfig", config_changed},
    {"interruptStatusReset", reset_status},
    {"registersRead", read_registers},
    {"registersWrite", write_registers},
    {"closeRegisters", close_registers},
};

}  // namespace

void export_registers(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
