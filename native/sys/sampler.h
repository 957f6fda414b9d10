// A thread that looks at rings ten times a second, and more often at one that may turn out to be stuck.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "sys/memory.h"
#include "sys/result.h"
#include "sys/unique_fd.h"

namespace vhostnet {

class Sampler {
 public:
  // Where a ring's available and used index lie.
  struct Ring {
    std::shared_ptr<Mapping> avail_memory;
    size_t avail;
    std::shared_ptr<Mapping> used_memory;
    size_t used;
  };

  // Called on the thread, with the id of a ring that may be stuck.
  using Suspect = std::function<void(uint32_t id)>;

  static Result<std::unique_ptr<Sampler>> start(Suspect suspect);
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Ends the thread and waits for it; suspect is not called afterwards.
  ~Sampler();

  // A ring that `worker`, a thread, serves; nothing is looked at yet. ENOENT: there is no such thread.
  Result<void> add(uint32_t id, pid_t worker);
  // Looks at it from now on. Without effect where it was not added.
  void begin(uint32_t id, Ring ring);
  // No more. suspect may still be called for it, once.
  void end(uint32_t id);
  void remove(uint32_t id);

 private:
  struct Watched {
    UniqueFd schedstat;
    std::optional<Ring> ring;
    uint16_t used = 0;
    uint64_t cpu_ns = 0;
    std::chrono::steady_clock::time_point since;
    bool waits = false;  // work does, and nothing was done since it was looked at last
    bool told = false;
  };

  Sampler(UniqueFd wake, Suspect suspect);
  void run();
  void wake();
  void look(Watched& watched);
  bool sample(Watched& watched);

  const UniqueFd wake_;
  const Suspect suspect_;
  std::mutex mutex_;
  std::map<uint32_t, Watched> watched_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace vhostnet
