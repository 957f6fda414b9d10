// Memory of a process: what memfd_create(2), fcntl(2) and madvise(2) are told. The same on x86-64 and arm64.

/** memfd_create(2) flags (linux/memfd.h). */
export const MFD_HUGETLB = 0x4
/** Where log2 of the huge page size goes in memfd_create(2)'s flags (linux/memfd.h, asm-generic/hugetlb_encode.h). */
export const MFD_HUGE_SHIFT = 26

/** F_ADD_SEALS (linux/fcntl.h). */
export const F_SEAL = {
  F_SEAL_SEAL: 0x1,
  F_SEAL_SHRINK: 0x2,
  F_SEAL_GROW: 0x4,
  F_SEAL_WRITE: 0x8,
  F_SEAL_FUTURE_WRITE: 0x10,
  F_SEAL_EXEC: 0x20,
} as const

/** Type of the file system that huge pages are of, as fstatfs(2) has it (linux/magic.h). */
export const HUGETLBFS_MAGIC = 0x958458f6

/** madvise(2) (asm-generic/mman-common.h). */
export const MADV = {
  MADV_HUGEPAGE: 14,
  MADV_NOHUGEPAGE: 15,
  /** Since Linux 5.14. */
  MADV_POPULATE_WRITE: 23,
} as const
