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

namespace {

// A huge page of x86-64 and of arm64 with pages of 4 KiB: PMD_SIZE.
constexpr size_t kHugePage = 2 << 20;

Result<uint8_t*> map(int fd, uint64_t offset, size_t size, int flags) {
  void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) return system_error("mmap");
  return static_cast<uint8_t*>(mapped);
}

Result<MappedRange> kept_from_children(uint8_t* address, size_t size) {
  if (auto advised = advise(address, size, MADV_DONTFORK); !advised.ok()) {
    ::munmap(address, size);
    return advised.error();
  }
  return MappedRange{address, size};
}

}  // namespace

Result<MappedRange> map_shared(int fd, uint64_t offset, size_t size, bool reserve) {
  auto mapped = map(fd, offset, size, MAP_SHARED | (reserve ? 0 : MAP_NORESERVE));
  if (!mapped.ok()) return mapped.error();
  return kept_from_children(mapped.value(), size);
}

Result<MappedRange> map_anonymous(size_t size) {
  size_t spare = size < kHugePage || size > SIZE_MAX - kHugePage ? 0 : kHugePage;
  auto mapped = map(-1, 0, size + spare, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  if (!mapped.ok()) return mapped.error();
  uint8_t* address = mapped.value();
  if (spare != 0) {
    size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    size_t whole = (size + page - 1) / page * page;
    size_t before = -reinterpret_cast<uintptr_t>(address) % kHugePage;
    if (before != 0) ::munmap(address, before);
    address += before;
    ::munmap(address + whole, spare - before);
  }
  return kept_from_children(address, size);
}

}  // namespace vhostnet
