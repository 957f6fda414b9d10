// JavaScript arguments to C++ values, and Results back to values or exceptions.
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>
#include <string>

#include "sys/result.h"

namespace vhostnet::wrap {

// Throws an Error with `errno` (positive) and `syscall`, the one shape that the TypeScript side knows.
[[noreturn]] void throw_error(Napi::Env env, const Error& error);

template <typename T>
T value_or_throw(Napi::Env env, Result<T> result) {
  if (!result.ok()) throw_error(env, result.error());
  return std::move(result.value());
}

inline void value_or_throw(Napi::Env env, Result<void> result) {
  if (!result.ok()) throw_error(env, result.error());
}

// What JavaScript passed is refused: a TypeError or RangeError with `code` ERR_OPTION_TYPE or ERR_OPTION_RANGE, and
// `argument`, its name; the message is what is wrong with it.
[[noreturn]] void throw_wrong_type(Napi::Env env, const char* name, const std::string& problem);
[[noreturn]] void throw_out_of_range(Napi::Env env, const char* name, const std::string& problem);

// Each refuses what it cannot convert without loss: NaN, fractions, negative and lossy values.
uint64_t to_size(const Napi::Value& value, const char* name);  // 0 .. 2^53 - 1
uint32_t to_uint32(const Napi::Value& value, const char* name);
int32_t to_int32(const Napi::Value& value, const char* name);
uint64_t to_uint64(const Napi::Value& value, const char* name);  // from a bigint
bool to_bool(const Napi::Value& value, const char* name);
std::string to_string(const Napi::Value& value, const char* name);
Napi::Object to_object(const Napi::Value& value, const char* name);
std::span<uint8_t> to_bytes(const Napi::Value& value, const char* name);
std::span<uint32_t> to_uint32s(const Napi::Value& value, const char* name);
std::span<double> to_doubles(const Napi::Value& value, const char* name);

Napi::Value from_bool(Napi::Env env, bool value);
Napi::Value from_number(Napi::Env env, double value);
Napi::Value from_uint64(Napi::Env env, uint64_t value);

struct Export {
  const char* name;
  Napi::Value (*function)(const Napi::CallbackInfo&);
};
void export_functions(Napi::Env env, Napi::Object exports, std::span<const Export> functions);

}  // namespace vhostnet::wrap
