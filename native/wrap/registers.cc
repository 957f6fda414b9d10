// Registers that are served natively, for JavaScript.
#include "wrap/registers.h"

#include <algorithm>

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
  auto output = value_or_throw(env, duplicate(to_fd(info[1])));
  auto serial = std::make_shared<Serial>(std::move(interrupt), std::move(output));
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

Value create_rtc(const CallbackInfo& info) {
  return from_handle(info.Env(), std::make_unique<RegistersHandle>(info.Env(), std::make_shared<Rtc>(), Rtc::kSize));
}

Value close_registers(const CallbackInfo& info) {
  to_handle<RegistersHandle>(info[0]).close();
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"serialCreate", create_serial},     {"serialTake", take}, {"serialPut", put}, {"rtcCreate", create_rtc},
    {"closeRegisters", close_registers},
};

}  // namespace

void export_registers(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
