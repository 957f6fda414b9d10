// Faults in native/sys.

import type { Fault } from './fault.ts'
import { TRANSMITTING } from './ring.ts'

export const NATIVE_SYS: readonly Fault[] = [
  {
    name: 'a signal keeps the worker from starting',
    file: 'native/sys/vhost.cc',
    line: 'return control(fd, VHOST_SET_OWNER, "VHOST_SET_OWNER", nullptr);',
    faulty: 'blocked.~SignalsBlocked();\n  return control(fd, VHOST_SET_OWNER, "VHOST_SET_OWNER", nullptr);',
    test: 'kernel/vhost-ioctls',
    title: 'vhost-net ioctls the owner VHOST_SET_OWNER starts a worker amid signals, such as a profiler sends',
  },
  {
    name: 'devices stay open in programs that this process starts',
    file: 'native/sys/file.cc',
    line: 'do fd = ::open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);',
    faulty: 'do fd = ::open(path, O_RDWR | O_NONBLOCK);',
    test: 'kernel/unwind',
    title: 'bring-up of queue pairs of 1, as the kernel sees it holds every fd with close-on-exec',
  },
  {
    name: 'netlink sockets stay open in programs that this process starts',
    file: 'native/sys/netlink.cc',
    line: 'UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));',
    faulty: 'UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, protocol));',
    test: 'kernel/unwind',
    title: 'bring-up of queue pairs of 1, as the kernel sees it holds every fd with close-on-exec',
  },
  {
    name: "the kernel's own words are not asked for",
    file: 'native/sys/netlink.cc',
    line: 'if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one) < 0) return system_error("setsockopt");',
    faulty:
      'if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one) < 0) return system_error("setsockopt");',
    test: 'kernel/rtnetlink',
    title: "RtNetlink errors EINVAL with the kernel's own words: an MTU the driver does not take",
  },
  {
    name: 'reading an eventfd waits for a signal',
    file: 'native/sys/eventfd.cc',
    line: 'int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);',
    faulty: 'int fd = ::eventfd(0, EFD_CLOEXEC);',
    test: 'unit/eventfd-poller',
    title: 'EventFd is non-blocking and close-on-exec',
  },
  {
    name: 'the poll thread is waited for but not told to stop',
    file: 'native/sys/poll_thread.cc',
    line: 'static_cast<void>(eventfd_write(stop_.get(), 1).ok());',
    faulty: 'static_cast<void>(eventfd_write(stop_.get(), 0).ok());',
    test: 'unit/eventfd-poller',
    title: 'watchReadable has one thread for all watches, while there is one',
    ends: 'hangs',
  },
  {
    name: 'guest memory is copied for every child',
    file: 'native/sys/memory.cc',
    line: 'if (auto advised = advise(range.address, size, MADV_DONTFORK); !advised.ok()) {',
    faulty: 'if (auto advised = advise(range.address, size, MADV_DOFORK); !advised.ok()) {',
    test: 'kernel/memory',
    title:
      'guest memory under vhost taken and kept is not given to children, whose writes would take pages away from the worker',
  },
  {
    name: 'memory is a private copy of its file',
    file: 'native/sys/memory.cc',
    line: 'int flags = (reserve ? 0 : MAP_NORESERVE) | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);',
    faulty: 'int flags = (reserve ? 0 : MAP_NORESERVE) | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE);',
    test: 'kernel/memory',
    title: 'guest memory under vhost taken and kept is what its file is, for whoever has that',
  },
  {
    name: 'the memory table loses its last region',
    file: 'native/sys/vhost.cc',
    line: 'vhost_memory header{static_cast<uint32_t>(regions.size()), 0};',
    faulty: 'vhost_memory header{static_cast<uint32_t>(regions.size()) - 1, 0};',
    test: 'kernel/vhost-ioctls',
    title: 'vhost-net ioctls memory VHOST_SET_MEM_TABLE lets the worker reach what is in the table, and nothing else',
  },
  {
    name: "a ring's base and its index are swapped",
    file: 'native/sys/vhost.cc',
    line: 'vhost_vring_state state{index, base};',
    faulty: 'vhost_vring_state state{base, index};',
    test: 'kernel/vhost-ioctls',
    title:
      'vhost-net ioctls rings VHOST_SET_VRING_BASE takes 0..65535, which VHOST_GET_VRING_BASE says again, each ring its own',
  },
  {
    name: 'what cannot change now counts as active',
    file: 'native/sys/ethtool.cc',
    line: 'features.emplace_back(std::string(name, ::strnlen(name, ETH_GSTRING_LEN)), (block.active >> (bit % 32)) & 1);',
    faulty:
      'features.emplace_back(std::string(name, ::strnlen(name, ETH_GSTRING_LEN)), (block.available >> (bit % 32)) & 1);',
    test: 'kernel/tun-ioctls',
    title: 'tun ioctls TUNSETOFFLOAD is what the device offers to the stack',
  },
  {
    name: 'the last address of a filter is left out',
    file: 'native/sys/tun.cc',
    line: 'header.count = static_cast<uint16_t>(addresses.size() / 6);',
    faulty: 'header.count = static_cast<uint16_t>(addresses.size() / 7);',
    test: 'kernel/tun-ioctls',
    title: 'tun ioctls TUNSETTXFILTER lets frames to its addresses through, and no others',
  },
  {
    name: 'the event index is passed one entry too early',
    file: 'native/sys/split_ring.cc',
    line: 'return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);',
    faulty: 'return static_cast<uint16_t>(now - event - 1) <= static_cast<uint16_t>(now - before);',
    test: 'unit/driver-transmit-ring',
    title:
      'the ring loop of the driver transmitting [RING-DESC-D01] [RING-IND-D01] [RING-IND-D02] [RING-IND-D04] [RING-AVAIL-D01] [RING-ANOTIF-D02] [RING-ANOTIF-D03] [RING-ANOTIF-D04] [RING-ANOTIF-D05] [RING-ANOTIF-D06] [RING-ANOTIF-D07] [BASE-CLEAN-D01] keeps every buffer, chain and kick right, whatever the order of events, with EVENT_IDX, without INDIRECT_DESC',
  },
  {
    name: 'a kick is counted but not given',
    file: 'native/sys/split_ring.cc',
    line: 'return eventfd_write(kick_, 1);',
    faulty: 'return {};',
    test: 'kernel/traffic',
    title:
      'traffic between two NICs with few notifications wakes a sleeping receiver for a single frame, again and again, with EVENT_IDX',
  },
  {
    name: 'the slot of the available ring wraps one entry too early',
    file: 'native/sys/split_ring.h',
    line: 'void put_available(uint16_t head) { *avail_ring(next_available_++ & mask_) = head; }',
    faulty: 'void put_available(uint16_t head) { *avail_ring(next_available_++ % mask_) = head; }',
    test: 'unit/driver-transmit-ring',
    title: TRANSMITTING,
  },
  {
    name: 'a device may return what it was not given',
    file: 'native/sys/descriptor_table.h',
    line: 'bool begins(uint32_t id) const { return id < config_.num && chains_[id].descriptors > 0; }',
    faulty: 'bool begins(uint32_t id) const { return id < config_.num; }',
    test: 'unit/driver-lying-device',
    title:
      'the ring loop of the driver refuses a device that returns a descriptor that it was not given, and goes on refusing it',
  },
  {
    name: 'a segment may reach one byte into the next buffer',
    file: 'native/sys/buffer_pool.h',
    line: 'uint64_t{offset - offset_of(buffer)} + length <= buffer_size_;',
    faulty: 'uint64_t{offset - offset_of(buffer)} + length <= buffer_size_ + 1;',
    test: 'unit/driver-erring-caller',
    title: 'the ring loop of the driver refuses a caller who sends a segment longer than a buffer, and sends nothing',
  },
  {
    name: 'memory of somebody else is unmapped',
    file: 'native/sys/memory.cc',
    line: 'if (!owner_) ::munmap(address_, size_);',
    faulty: '::munmap(address_, size_);',
    test: 'unit/memory',
    title: 'guest memory of somebody else stays mapped when it is closed',
    ends: 'crashes',
  },
  {
    name: 'a ring and its worker are swapped',
    file: 'native/sys/vhost.cc',
    line: 'vhost_vring_worker ring{index, worker_id};',
    faulty: 'vhost_vring_worker ring{worker_id, index};',
    test: 'kernel/vhost-ioctls',
    title:
      'vhost-net ioctls the owner has one worker for both rings, whatever the kernel: the calls for more say that there are none',
  },
  {
    name: 'another worker is freed',
    file: 'native/sys/vhost.cc',
    line: 'vhost_worker_state state{worker_id};',
    faulty: 'vhost_worker_state state{worker_id & 1};',
    test: 'kernel/vhost-ioctls',
    title:
      'vhost-net ioctls the owner has one worker for both rings, whatever the kernel: the calls for more say that there are none',
  },
]
