// Another thread of the machine: the CPUs it may run on, and the time it had on them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

// sched_setaffinity(tid, cpus). EINVAL: none of them is there, or allowed by the cpuset. ESRCH: no such thread. EPERM:
// somebody else's, or a kernel thread that is bound.
Result<void> set_affinity(pid_t tid, std::span<const uint32_t> cpus);

// sched_getaffinity(tid): the numbers of the CPUs, ascending. ESRCH: no such thread.
Result<std::vector<uint32_t>> get_affinity(pid_t tid);

// open(/proc/TID/schedstat), which stands for any thread of the machine. ENOENT: no such thread, or a kernel without
// CONFIG_SCHED_INFO.
Result<UniqueFd> open_schedstat(pid_t tid);

// Nanoseconds for which it ran (Documentation/scheduler/sched-stats.rst). ESRCH: it has ended.
Result<uint64_t> cpu_time(int schedstat);

}  // namespace vhostnet
