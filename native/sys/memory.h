// Memory that a guest (or the in-process driver) and the kernel's vhost worker share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

// A range that the kernel can write to. Whoever can still see it holds a shared_ptr to this. Its destructor unmaps an
// mmap(2) range of ours, or lets go of the owner of memory that is somebody else's.
class Mapping {
 public:
  Mapping(uint8_t* address, size_t size, std::shared_ptr<void> owner = nullptr)
      : address_(address), size_(size), owner_(std::move(owner)) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  uint8_t* address() const { return address_; }
  size_t size() const { return size_; }
  bool contains(size_t offset, size_t length) const { return offset <= size_ && length <= size_ - offset; }

 private:
  uint8_t* address_;
  size_t size_;
  std::shared_ptr<void> owner_;
};

struct MappedRange {
  uint8_t* address;
  size_t size;
};

// memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING). flags: MFD_HUGETLB with log2 of the page size from bit
// MFD_HUGE_SHIFT on (linux/memfd.h), or 0. EINVAL: name over 249 bytes. ENODEV: no huge pages of that size.
Result<UniqueFd> memfd_create(const char* name, uint32_t flags);

// ftruncate(fd, size). EINVAL, EFBIG: size out of range. EPERM: sealed.
Result<void> truncate(int fd, uint64_t size);

// fcntl(fd, F_ADD_SEALS, seals): F_SEAL_* of linux/fcntl.h. EPERM: F_SEAL_SEAL is set. EINVAL: not a memfd.
Result<void> add_seals(int fd, uint32_t seals);

// fcntl(fd, F_GET_SEALS). EINVAL: a file that has none, not a memfd.
Result<uint32_t> get_seals(int fd);

struct FileSystem {
  uint32_t type;  // *_MAGIC of linux/magic.h
  uint64_t block_size;
};

// fstatfs(fd). The block size of hugetlbfs is that of its pages.
Result<FileSystem> file_system(int fd);

// msync(address, size, MS_ASYNC), which writes nothing since Linux 2.6.19. ENOMEM: not all of it is mapped. EINVAL: the
// address is not that of a page.
Result<void> check_mapped(uint8_t* address, size_t size);

// madvise(address, size, advice): MADV_* of asm-generic/mman-common.h. EINVAL: the kernel lacks the advice. ENOMEM,
// EFAULT: MADV_POPULATE_WRITE found no page.
Result<void> advise(uint8_t* address, size_t size, int advice);

// mmap(size) read-write, shared, from `offset` of the file on. Pages are taken when first touched, and not given to
// children (MADV_DONTFORK: a fork would make copy-on-write move pages away from the vhost worker). reserve: huge pages
// are set aside now. Without it (MAP_NORESERVE) the first touch of one that is missing is a SIGBUS. ENOMEM: no address
// space, over RLIMIT_AS, or too few huge pages to reserve. EACCES: fd is not open for writing. EPERM: it is sealed
// against it. EINVAL: an offset that is not of a page. ENODEV: nothing that can be mapped.
Result<MappedRange> map_shared(int fd, uint64_t offset, size_t size, bool reserve);

// The same, private and anonymous, and where it has a huge page's size on the boundary of one: a page of the guest can
// then be one of the host. Linux looks for such an address itself since 6.7.
Result<MappedRange> map_anonymous(size_t size);

}  // namespace vhostnet
