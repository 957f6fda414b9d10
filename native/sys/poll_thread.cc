#include "sys/poll_thread.h"

#include <sys/epoll.h>

#include <array>

#include "sys/eventfd.h"
#include "sys/quiet_thread.h"

namespace vhostnet {

namespace {

constexpr uint64_t kStop = UINT64_MAX;

Result<void> control_epoll(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  if (::epoll_ctl(epoll, operation, fd, &event) < 0) return system_error("epoll_ctl");
  return {};
}

}  // namespace

PollThread::PollThread(UniqueFd epoll, UniqueFd stop, Ready ready)
    : epoll_(std::move(epoll)), stop_(std::move(stop)), ready_(std::move(ready)) {}

Result<std::unique_ptr<PollThread>> PollThread::start(Ready ready) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return system_error("epoll_create1");
  auto stop = eventfd_create();
  if (!stop.ok()) return stop.error();
  auto added = control_epoll(epoll.get(), EPOLL_CTL_ADD, stop.value().get(), EPOLLIN, kStop);
  if (!added.ok()) return added.error();

  std::unique_ptr<PollThread> poll(new PollThread(std::move(epoll), std::move(stop.value()), std::move(ready)));
  auto thread = start_quiet_thread("vhost-net-poll", [raw = poll.get()] { raw->run(); });
  if (!thread.ok()) return thread.error();
  poll->thread_ = std::move(thread.value());
  return poll;
}

PollThread::~PollThread() {
  if (!thread_.joinable()) return;
  // Cannot fail: the counter is 0 and is written to once.
  static_cast<void>(eventfd_write(stop_.get(), 1).ok());
  thread_.join();
}

Result<void> PollThread::add(uint32_t id, int fd) {
  return control_epoll(epoll_.get(), EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, id);
}

Result<void> PollThread::rearm(uint32_t id, int fd) {
  return control_epoll(epoll_.get(), EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, id);
}

Result<void> PollThread::remove(int fd) { return control_epoll(epoll_.get(), EPOLL_CTL_DEL, fd, 0, 0); }

void PollThread::run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    // EINTR cannot happen with every signal blocked, and the epoll fd outlives this loop: no other error is possible.
    int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    std::vector<uint32_t> ids;
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 == kStop) return;
      ids.push_back(static_cast<uint32_t>(events[i].data.u64));
    }
    if (!ids.empty()) ready_(std::move(ids));
  }
}

}  // namespace vhostnet
