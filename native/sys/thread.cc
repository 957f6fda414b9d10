#include "sys/thread.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>

namespace vhostnet {

namespace {

// As many as Linux can be built for (CONFIG_NR_CPUS).
constexpr size_t kMostCpus = 8192;

struct CpuSetDeleter {
  void operator()(cpu_set_t* set) const { CPU_FREE(set); }
};
using CpuSet = std::unique_ptr<cpu_set_t, CpuSetDeleter>;

const size_t kCpuSetSize = CPU_ALLOC_SIZE(kMostCpus);

}  // namespace

Result<void> set_affinity(pid_t tid, std::span<const uint32_t> cpus) {
  CpuSet set(CPU_ALLOC(kMostCpus));
  CPU_ZERO_S(kCpuSetSize, set.get());
  for (uint32_t cpu : cpus)
    if (cpu < kMostCpus) CPU_SET_S(cpu, kCpuSetSize, set.get());
  if (::sched_setaffinity(tid, kCpuSetSize, set.get()) < 0) return system_error("sched_setaffinity");
  return {};
}

Result<std::vector<uint32_t>> get_affinity(pid_t tid) {
  CpuSet set(CPU_ALLOC(kMostCpus));
  CPU_ZERO_S(kCpuSetSize, set.get());
  if (::sched_getaffinity(tid, kCpuSetSize, set.get()) < 0) return system_error("sched_getaffinity");
  std::vector<uint32_t> cpus;
  for (uint32_t cpu = 0; cpu < kMostCpus; cpu++)
    if (CPU_ISSET_S(cpu, kCpuSetSize, set.get())) cpus.push_back(cpu);
  return cpus;
}

Result<UniqueFd> open_schedstat(pid_t tid) {
  UniqueFd fd(::open(("/proc/" + std::to_string(tid) + "/schedstat").c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return system_error("open");
  return fd;
}

Result<uint64_t> cpu_time(int schedstat) {
  std::array<char, 96> text;
  ssize_t count = ::pread(schedstat, text.data(), text.size() - 1, 0);
  if (count < 0) return system_error("pread");
  text[static_cast<size_t>(count)] = '\0';
  return std::strtoull(text.data(), nullptr, 10);
}

}  // namespace vhostnet
