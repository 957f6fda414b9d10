#include "sys/memory.h"

#include <sys/mman.h>
#include <unistd.h>

namespace vhostnet {

Mapping::~Mapping() { ::munmap(address_, size_); }

Result<UniqueFd> memfd_create(const char* name) {
  int fd = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return system_error("memfd_create");
  return UniqueFd(fd);
}

Result<void> truncate(int fd, uint64_t size) {
  int result;
  do result = ::ftruncate(fd, static_cast<off_t>(size));
  while (result < 0 && errno == EINTR);
  if (result < 0) return system_error("ftruncate");
  return {};
}

Result<MappedRange> map(int fd, size_t size) {
  int flags = MAP_NORESERVE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (address == MAP_FAILED) return system_error("mmap");
  if (::madvise(address, size, MADV_DONTFORK) < 0) {
    Error error = system_error("madvise");
    ::munmap(address, size);
    return error;
  }
  return MappedRange{static_cast<uint8_t*>(address), size};
}

}  // namespace vhostnet
