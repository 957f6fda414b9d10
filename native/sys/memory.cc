#include "sys/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace vhostnet {

Mapping::~Mapping() {
  if (!owner_) ::munmap(address_, size_);
}

Result<UniqueFd> memfd_create(const char* name, uint32_t flags) {
  int fd = ::memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING);
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

Result<void> add_seals(int fd, uint32_t seals) {
  if (::fcntl(fd, F_ADD_SEALS, seals) < 0) return system_error("F_ADD_SEALS");
  return {};
}

Result<uint32_t> get_seals(int fd) {
  int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return system_error("F_GET_SEALS");
  return static_cast<uint32_t>(seals);
}

Result<FileSystem> file_system(int fd) {
  struct statfs found {};
  int result;
  do result = ::fstatfs(fd, &found);
  while (result < 0 && errno == EINTR);
  if (result < 0) return system_error("fstatfs");
  return FileSystem{static_cast<uint32_t>(found.f_type), static_cast<uint64_t>(found.f_bsize)};
}

Result<void> check_mapped(uint8_t* address, size_t size) {
  if (::msync(address, size, MS_ASYNC) < 0) return system_error("msync");
  return {};
}

Result<void> advise(uint8_t* address, size_t size, int advice) {
  int result;
  do result = ::madvise(address, size, advice);
  while (result < 0 && errno == EINTR);
  if (result < 0) return system_error("madvise");
  return {};
}

Result<MappedRange> map(int fd, uint64_t offset, size_t size, bool reserve) {
  int flags = (reserve ? 0 : MAP_NORESERVE) | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
  void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) return system_error("mmap");
  MappedRange range{static_cast<uint8_t*>(mapped), size};
  if (auto advised = advise(range.address, size, MADV_DONTFORK); !advised.ok()) {
    ::munmap(mapped, size);
    return advised.error();
  }
  return range;
}

}  // namespace vhostnet
