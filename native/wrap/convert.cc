#include "wrap/convert.h"

#include <cmath>
#include <cstring>

namespace vhostnet::wrap {

namespace {

template <typename T>
std::span<T> to_span(const Napi::Value& value, napi_typedarray_type type, const char* name, const char* type_name) {
  // One call for all of it: bursts pass here.
  napi_typedarray_type actual;
  size_t length;
  void* data;
  napi_status status = napi_get_typedarray_info(value.Env(), value, &actual, &length, &data, nullptr, nullptr);
  if (status != napi_ok || actual != type) throw_wrong_type(value.Env(), name, std::string("is not a ") + type_name);
  return {static_cast<T*>(data), length};
}

double to_integer(const Napi::Value& value, const char* name, double least, double most) {
  if (!value.IsNumber()) throw_wrong_type(value.Env(), name, "is not a number");
  double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= least && number <= most) || number != std::trunc(number))
    throw_out_of_range(value.Env(), name, "is not an integer in its range");
  return number;
}

}  // namespace

void throw_error(Napi::Env env, const Error& error) {
  std::string message = std::strerror(error.number);
  if (!error.detail.empty()) message += ": " + error.detail;
  Napi::Error exception = Napi::Error::New(env, message);
  exception.Set("errno", Napi::Number::New(env, error.number));
  exception.Set("syscall", Napi::String::New(env, error.operation));
  throw exception;
}

namespace {

[[noreturn]] void refuse(Napi::Error error, const char* code, const char* name) {
  error.Set("code", Napi::String::New(error.Env(), code));
  error.Set("argument", Napi::String::New(error.Env(), name));
  throw error;
}

}  // namespace

void throw_wrong_type(Napi::Env env, const char* name, const std::string& problem) {
  refuse(Napi::TypeError::New(env, problem), "ERR_OPTION_TYPE", name);
}

void throw_out_of_range(Napi::Env env, const char* name, const std::string& problem) {
  refuse(Napi::RangeError::New(env, problem), "ERR_OPTION_RANGE", name);
}

uint64_t to_size(const Napi::Value& value, const char* name) {
  return static_cast<uint64_t>(to_integer(value, name, 0, 9007199254740991.0));
}

uint32_t to_uint32(const Napi::Value& value, const char* name) {
  return static_cast<uint32_t>(to_integer(value, name, 0, UINT32_MAX));
}

int32_t to_int32(const Napi::Value& value, const char* name) {
  return static_cast<int32_t>(to_integer(value, name, INT32_MIN, INT32_MAX));
}

uint64_t to_uint64(const Napi::Value& value, const char* name) {
  if (!value.IsBigInt()) throw_wrong_type(value.Env(), name, "is not a bigint");
  bool lossless = false;
  uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw_out_of_range(value.Env(), name, "is not within 64 bits");
  return number;
}

bool to_bool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) throw_wrong_type(value.Env(), name, "is not a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string to_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) throw_wrong_type(value.Env(), name, "is not a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) throw_wrong_type(value.Env(), name, "has a NUL in it");
  return text;
}

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) throw_wrong_type(value.Env(), name, "is not an object");
  return value.As<Napi::Object>();
}

std::span<uint8_t> to_bytes(const Napi::Value& value, const char* name) {
  return to_span<uint8_t>(value, napi_uint8_array, name, "Uint8Array");
}

std::span<uint32_t> to_uint32s(const Napi::Value& value, const char* name) {
  return to_span<uint32_t>(value, napi_uint32_array, name, "Uint32Array");
}

std::span<double> to_doubles(const Napi::Value& value, const char* name) {
  return to_span<double>(value, napi_float64_array, name, "Float64Array");
}

Napi::Value from_bool(Napi::Env env, bool value) { return Napi::Boolean::New(env, value); }
Napi::Value from_number(Napi::Env env, double value) { return Napi::Number::New(env, value); }
Napi::Value from_uint64(Napi::Env env, uint64_t value) { return Napi::BigInt::New(env, value); }

void export_functions(Napi::Env env, Napi::Object exports, std::span<const Export> functions) {
  for (const Export& entry : functions) exports.Set(entry.name, Napi::Function::New(env, entry.function, entry.name));
}

}  // namespace vhostnet::wrap
