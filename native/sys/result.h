// What every function of native/sys returns: a value, or the operation that failed and its errno.
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace vhostnet {

struct Error {
  int number;             // a positive errno
  const char* operation;  // the UAPI's spelling: "VHOST_SET_OWNER", "TUNSETIFF", "mmap"
  std::string detail;     // what errno alone does not say; often empty
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT: a value is a result
  Result(Error error) : state_(std::move(error)) {}  // NOLINT: so is an error

  bool ok() const { return std::holds_alternative<T>(state_); }
  T& value() { return std::get<T>(state_); }
  const Error& error() const { return std::get<Error>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: an error is a result

  bool ok() const { return !error_; }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

inline Error system_error(const char* operation) { return Error{errno, operation, {}}; }

}  // namespace vhostnet
