// What can be wrong with a ring: its device's doing, or its caller's. driver/ring-error.ts knows them by their name.
#pragma once

#include <cerrno>
#include <string>
#include <utility>

#include "sys/result.h"

namespace vhostnet {

inline Error broken(std::string detail) { return Error{EPROTO, "virtqueue", std::move(detail)}; }
inline Error misused(std::string detail) { return Error{EINVAL, "virtqueue", std::move(detail)}; }

}  // namespace vhostnet
