// Faults in the memory room.

import type { Fault } from './fault.ts'

export const MEMORY: readonly Fault[] = [
  {
    name: 'a range may end behind its region',
    file: 'lib/memory/guest-memory.ts',
    line: 'if (region !== undefined && length <= region.guestAddress + region.size - guestAddress) return region',
    faulty: 'if (region !== undefined && length <= region.size) return region',
    test: 'unit/memory',
    title: 'guest memory in several regions finds the region that holds a whole range, and no other',
  },
  {
    name: 'regions side by side count as overlapping',
    file: 'lib/memory/regions.ts',
    line: 'if (region === undefined || region.guestAddress + region.size <= next.guestAddress) continue',
    faulty: 'if (region === undefined || region.guestAddress + region.size < next.guestAddress) continue',
    test: 'unit/memory',
    title: 'guest memory whose regions come and go detaches the windows of the removed region, and no others',
  },
  {
    name: 'the kernel is asked for one region too many',
    file: 'lib/memory/regions.ts',
    line: 'if (regions <= limit) return',
    faulty: 'if (regions <= limit + 1) return',
    test: 'kernel/memory',
    title:
      'guest memory under vhost in several regions gives the kernel as many as it takes, and refuses more before it asks',
  },
  {
    name: 'a removed region stays mapped',
    file: 'lib/memory/native-memory.ts',
    line: 'removed.mapping.close()',
    faulty: 'void removed',
    test: 'kernel/memory',
    title:
      'guest memory under vhost whose regions come and go unmaps a removed region once the last table let go of it, whether its pair runs or not',
  },
  {
    name: 'queue pairs that took a new table keep it where another could not',
    file: 'lib/memory/native-memory.ts',
    line: 'undo.add(reload)',
    faulty: 'void undo',
    test: 'kernel/memory',
    title:
      'guest memory under vhost whose regions come and go stays as it was where one pair cannot reload, when a region is added',
  },
  {
    name: 'a region goes while a ring lies in it',
    file: 'lib/memory/native-memory.ts',
    line: 'if (!overlap(pin, removed)) continue',
    faulty: 'if (overlap(pin, removed)) continue',
    test: 'kernel/memory',
    title:
      'guest memory under vhost whose regions come and go keeps the region of a running ring and of a driver, and asks nobody',
  },
  {
    name: 'a listener hears of new regions before the caller has returned',
    file: 'lib/memory/native-memory.ts',
    line: "queueMicrotask(() => this.emit('regionsChanged', regions))",
    faulty: "this.emit('regionsChanged', regions)",
    test: 'unit/memory',
    title: 'guest memory whose regions come and go says so once the caller has returned',
  },
  {
    name: 'a memfd may grow',
    file: 'lib/memory/backing.ts',
    line: 'if (seal) call(() => binding().addSeals(fd, F_SEAL.F_SEAL_SHRINK | F_SEAL.F_SEAL_GROW | F_SEAL.F_SEAL_SEAL))',
    faulty: 'if (seal) call(() => binding().addSeals(fd, F_SEAL.F_SEAL_SHRINK | F_SEAL.F_SEAL_SEAL))',
    test: 'kernel/memory',
    title: 'guest memory under vhost taken and kept keeps its size, whoever has the file: memfd',
  },
  {
    name: 'huge pages are not set aside',
    file: 'lib/memory/backing.ts',
    line: "return call(() => binding().mmapShared(fd, 0, size, kind === 'hugetlb'))",
    faulty: 'return call(() => binding().mmapShared(fd, 0, size, false))',
    test: 'kernel/memory',
    title: 'guest memory under vhost of huge pages are refused at once where none are reserved, with what to do',
  },
  {
    name: 'a mapping is lost where a later step fails',
    file: 'lib/memory/backing.ts',
    line: 'const mapping = made.own(new Mapping(native, subject))',
    faulty: 'const mapping = new Mapping(native, subject)',
    test: 'unit/memory',
    title:
      'guest memory as the kernel is asked for it is one mapping for each region, and none where one cannot be had',
  },
  {
    name: 'fds that were not taken over are closed where adopting fails',
    file: 'lib/memory/native-memory.ts',
    line: 'files.giveBack()',
    faulty: 'files.close()',
    test: 'kernel/memory',
    title:
      'guest memory under vhost that somebody else made is refused and left to its giver: a file that is too short',
  },
  {
    name: 'an fd is closed where a ring cannot take its region',
    file: 'lib/memory/native-memory.ts',
    line: 'undo.add(() => files.giveBack())',
    faulty: 'undo.add(() => files.close())',
    test: 'kernel/memory',
    title:
      'guest memory under vhost that somebody else made is added to running rings and removed, and left to its giver where a ring cannot take it',
  },
  {
    name: 'a region may begin so late in its file that it ends behind it',
    file: 'lib/memory/adopted.ts',
    line: 'if (length - offset < size) {',
    faulty: 'if (length < size) {',
    test: 'kernel/memory',
    title:
      'guest memory under vhost that somebody else made is refused and left to its giver: an offset behind its end',
  },
]
