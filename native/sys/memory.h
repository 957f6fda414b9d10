// Memory that a guest (or the in-process driver) and the kernel's vhost worker share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

// One mmap(2) range, unmapped by its destructor. Whoever can still see the range holds a shared_ptr to this.
class Mapping {
 public:
  Mapping(uint8_t* address, size_t size) : address_(address), size_(size) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  uint8_t* address() const { return address_; }
  size_t size() const { return size_; }
  bool contains(size_t offset, size_t length) const { return offset <= size_ && length <= size_ - offset; }

 private:
  uint8_t* address_;
  size_t size_;
};

struct MappedRange {
  uint8_t* address;
  size_t size;
};

// memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING). EINVAL: name over 249 bytes.
Result<UniqueFd> memfd_create(const char* name);

// ftruncate(fd, size). EINVAL, EFBIG: size out of range.
Result<void> truncate(int fd, uint64_t size);

// mmap(size) read-write. fd < 0: private and anonymous; else shared, from offset 0. Pages are taken when first touched
// (MAP_NORESERVE) and not given to children (MADV_DONTFORK: a fork would make copy-on-write move pages away from the
// vhost worker). ENOMEM: no address space or over RLIMIT_AS.
Result<MappedRange> map(int fd, size_t size);

}  // namespace vhostnet
