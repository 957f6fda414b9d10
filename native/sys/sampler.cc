#include "sys/sampler.h"

#include <poll.h>

#include <atomic>
#include <utility>
#include <vector>

#include "sys/eventfd.h"
#include "sys/quiet_thread.h"
#include "sys/thread.h"

namespace vhostnet {

namespace {

constexpr int kTickMs = 100;
// While something may turn out to be wrong, so that its worker does not burn much more time than it takes to tell.
constexpr int kCloseTickMs = 50;
// A worker that ran for so long and finished nothing did not only wait for its turn: most of a close tick. Judged by
// that and not by the clock, since a machine that is short of time is no fault of the ring.
constexpr uint64_t kBusyNs = 40'000'000;
// Once it was told of, it is worth another look no sooner: it may receive while its tap takes nothing.
constexpr uint64_t kBusyAgainNs = 200'000'000;
// One that slept for so long amid work does not know of it, or cannot go on.
constexpr std::chrono::seconds kStuck{1};

uint16_t load(const std::shared_ptr<Mapping>& memory, size_t offset) {
  auto* index = reinterpret_cast<uint16_t*>(memory->address() + offset);
  return std::atomic_ref<uint16_t>(*index).load(std::memory_order_acquire);
}

uint16_t used_index(const Sampler::Ring& ring) { return load(ring.used_memory, ring.used); }
uint16_t avail_index(const Sampler::Ring& ring) { return load(ring.avail_memory, ring.avail); }

// That of a worker which has ended stands still.
uint64_t cpu_time_or(int schedstat, uint64_t before) {
  auto now = cpu_time(schedstat);
  return now.ok() ? now.value() : before;
}

}  // namespace

Sampler::Sampler(UniqueFd wake, Suspect suspect) : wake_(std::move(wake)), suspect_(std::move(suspect)) {}

Result<std::unique_ptr<Sampler>> Sampler::start(Suspect suspect) {
  auto wake = eventfd_create();
  if (!wake.ok()) return wake.error();
  std::unique_ptr<Sampler> sampler(new Sampler(std::move(wake.value()), std::move(suspect)));
  auto thread = start_quiet_thread("vhost-net-watch", [raw = sampler.get()] { raw->run(); });
  if (!thread.ok()) return thread.error();
  sampler->thread_ = std::move(thread.value());
  return sampler;
}

Sampler::~Sampler() {
  if (!thread_.joinable()) return;
  {
    std::unique_lock lock(mutex_);
    ending_ = true;
  }
  wake();
  thread_.join();
}

// Cannot fail: the thread takes the counter each time.
void Sampler::wake() { static_cast<void>(eventfd_write(wake_.get(), 1).ok()); }

Result<void> Sampler::add(uint32_t id, pid_t worker) {
  auto schedstat = open_schedstat(worker);
  if (!schedstat.ok()) return schedstat.error();
  Watched watched;
  watched.schedstat = std::move(schedstat.value());
  std::unique_lock lock(mutex_);
  watched_.insert_or_assign(id, std::move(watched));
  return {};
}

void Sampler::begin(uint32_t id, Ring ring) {
  std::unique_lock lock(mutex_);
  auto found = watched_.find(id);
  if (found == watched_.end()) return;
  found->second.ring = std::move(ring);
  found->second.told = false;
  look(found->second);
  wake();
}

void Sampler::end(uint32_t id) {
  std::unique_lock lock(mutex_);
  auto found = watched_.find(id);
  if (found != watched_.end()) found->second.ring.reset();
}

void Sampler::remove(uint32_t id) {
  std::unique_lock lock(mutex_);
  watched_.erase(id);
}

// What comes next is compared with.
void Sampler::look(Watched& watched) {
  watched.used = used_index(*watched.ring);
  watched.cpu_ns = cpu_time_or(watched.schedstat.get(), watched.cpu_ns);
  watched.since = std::chrono::steady_clock::now();
}

// Whether it is to be told of.
bool Sampler::sample(Watched& watched) {
  uint16_t used = used_index(*watched.ring);
  watched.waits = used != avail_index(*watched.ring) && used == watched.used;
  uint64_t cpu_ns = cpu_time_or(watched.schedstat.get(), watched.cpu_ns) - watched.cpu_ns;
  bool busy = cpu_ns >= (watched.told ? kBusyAgainNs : kBusyNs);
  bool slept = std::chrono::steady_clock::now() - watched.since >= kStuck && !watched.told;
  bool suspicious = watched.waits && (busy || slept);
  if (watched.waits && !suspicious) return false;
  watched.told = suspicious;
  look(watched);
  return suspicious;
}

void Sampler::run() {
  pollfd wake{wake_.get(), POLLIN, 0};
  for (int timeout = -1;;) {
    // EINTR cannot happen with every signal blocked.
    static_cast<void>(::poll(&wake, 1, timeout));
    if (wake.revents & POLLIN) static_cast<void>(eventfd_read(wake_.get()).ok());
    std::vector<uint32_t> suspects;
    {
      std::unique_lock lock(mutex_);
      if (ending_) return;
      timeout = -1;
      for (auto& [id, watched] : watched_) {
        if (!watched.ring) continue;
        if (timeout < 0) timeout = kTickMs;
        if (sample(watched)) suspects.push_back(id);
        if (watched.waits && !watched.told) timeout = kCloseTickMs;
      }
    }
    for (uint32_t id : suspects) suspect_(id);
  }
}

}  // namespace vhostnet
