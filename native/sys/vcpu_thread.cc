#include "sys/vcpu_thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "sys/quiet_thread.h"

namespace vhostnet {

namespace {

// What makes a thread leave KVM_RUN: the first real-time signal that nobody else in this process has taken, with a
// handler that does nothing. Without one it would end the process, and with SIG_IGN it would not interrupt.
int kick_signal() {
  static const int number = [] {
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) {
      struct sigaction taken {};
      ::sigaction(signal, nullptr, &taken);
      if (taken.sa_handler != SIG_DFL) continue;
      struct sigaction ours {};
      ours.sa_handler = [](int) {};
      ::sigaction(signal, &ours, nullptr);
      return signal;
    }
    return 0;
  }();
  return number;
}

void count(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

VcpuThread::VcpuThread(int vcpu, kvm_run* run, size_t run_size, std::shared_ptr<const GuestBus> bus,
                       std::function<void()> look)
    : vcpu_(vcpu), run_(run), run_size_(run_size), bus_(std::move(bus)), look_(std::move(look)) {}

Result<std::unique_ptr<VcpuThread>> VcpuThread::start(int vcpu, size_t run_size, uint32_t id,
                                                      std::shared_ptr<const GuestBus> bus, std::function<void()> look) {
  if (kick_signal() == 0) return Error{EBUSY, "sigaction", "every real-time signal of this process is taken"};
  void* run = ::mmap(nullptr, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (run == MAP_FAILED) return system_error("mmap");
  std::unique_ptr<VcpuThread> made(
      new VcpuThread(vcpu, static_cast<kvm_run*>(run), run_size, std::move(bus), std::move(look)));
  auto thread = start_quiet_thread(("vcpu " + std::to_string(id)).c_str(), [raw = made.get()] { raw->body(); });
  if (!thread.ok()) return thread.error();
  made->thread_ = std::move(thread.value());
  return made;
}

VcpuThread::~VcpuThread() {
  stop();
  ::munmap(run_, run_size_);
}

void VcpuThread::pause() {
  std::unique_lock lock(mutex_);
  pausing_ = true;
  leave_guest();
  changed_.wait(lock, [this] { return held_ || (request_ && !answer_) || done_; });
}

void VcpuThread::resume() {
  std::unique_lock lock(mutex_);
  pausing_ = false;
  changed_.notify_all();
}

void VcpuThread::stop() {
  if (!thread_.joinable()) return;
  std::unique_lock lock(mutex_);
  stopping_ = true;
  leave_guest();
  changed_.notify_all();
  lock.unlock();
  thread_.join();
}

// KVM_RUN that is entered later returns at once, and one that is under way is interrupted.
void VcpuThread::leave_guest() {
  if (done_) return;
  std::atomic_ref(run_->immediate_exit).store(1);
  ::pthread_kill(thread_.native_handle(), kick_signal());
}

std::optional<VcpuThread::Request> VcpuThread::request() {
  std::unique_lock lock(mutex_);
  return request_;
}

void VcpuThread::answer(uint32_t value) {
  std::unique_lock lock(mutex_);
  if (!request_) return;
  answer_ = value;
  changed_.notify_all();
}

std::optional<VcpuThread::End> VcpuThread::end() {
  std::unique_lock lock(mutex_);
  return end_;
}

void VcpuThread::body() {
  sigset_t kick;
  ::sigemptyset(&kick);
  ::sigaddset(&kick, kick_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
  while (may_run()) run_once();
  std::unique_lock lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

// An instruction that is half done is finished first, by entering KVM with immediate_exit still set.
bool VcpuThread::may_run() {
  std::unique_lock lock(mutex_);
  if (pausing_ && settled_) {
    held_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !pausing_ || stopping_; });
    held_ = false;
  }
  if (stopping_ || end_) return false;
  std::atomic_ref(run_->immediate_exit).store(pausing_ ? 1 : 0);
  return true;
}

void VcpuThread::run_once() {
  if (::ioctl(vcpu_, KVM_RUN, 0) == 0) {
    settled_ = false;
    count(counters_.exits);
    serve_exit();
  } else if (errno == EINTR || errno == EAGAIN) {
    // EAGAIN: it was started by another vCPU, or asked to be entered anew.
    settled_ = true;
  } else {
    ended({KVM_EXIT_UNKNOWN, 0, errno});
  }
}

void VcpuThread::serve_exit() {
  switch (run_->exit_reason) {
    case KVM_EXIT_IO:
      return serve_ports();
    case KVM_EXIT_MMIO:
      count(counters_.memory_accesses);
      return access(GuestBus::Space::kMemory, run_->mmio.phys_addr, run_->mmio.data, run_->mmio.len,
                    run_->mmio.is_write);
    case KVM_EXIT_SYSTEM_EVENT:
      return ended({KVM_EXIT_SYSTEM_EVENT, run_->system_event.type, 0});
    case KVM_EXIT_FAIL_ENTRY:
      return ended({KVM_EXIT_FAIL_ENTRY, run_->fail_entry.hardware_entry_failure_reason, 0});
    case KVM_EXIT_INTERNAL_ERROR:
      return ended({KVM_EXIT_INTERNAL_ERROR, run_->internal.suberror, 0});
    default:
      return ended({run_->exit_reason, 0, 0});
  }
}

// A string instruction is several accesses to one port.
void VcpuThread::serve_ports() {
  auto* data = reinterpret_cast<uint8_t*>(run_) + run_->io.data_offset;
  for (uint32_t i = 0; i < run_->io.count; i++, data += run_->io.size) {
    count(counters_.port_accesses);
    access(GuestBus::Space::kPorts, run_->io.port, data, run_->io.size, run_->io.direction == KVM_EXIT_IO_OUT);
  }
}

// In parts of 4, 2 and 1 bytes, lowest address first. KVM cuts accesses at the ends of pages, into any lengths.
void VcpuThread::access(GuestBus::Space space, uint64_t address, uint8_t* data, uint32_t length, bool write) {
  while (length > 0) {
    uint32_t width = std::min(std::bit_floor(length), 4u);
    uint32_t value = 0;
    if (write) std::memcpy(&value, data, width);
    value = access_part(space, address, width, write, value);
    if (!write) std::memcpy(data, &value, width);
    address += width;
    data += width;
    length -= width;
  }
}

uint32_t VcpuThread::access_part(GuestBus::Space space, uint64_t address, uint32_t width, bool write, uint32_t value) {
  auto place = bus_->find(space, address, width);
  if (!place) {
    count(counters_.unmapped);
    return UINT32_MAX;
  }
  const auto& [window, offset] = *place;
  if (!window.is_native(offset, width)) return ask({window.id, offset, width, write, value});
  if (!write) return window.registers->read(offset - window.native_offset, width);
  window.registers->write(offset - window.native_offset, width, value);
  return 0;
}

// Waits for the answer, or for the end.
uint32_t VcpuThread::ask(const Request& request) {
  count(counters_.asked);
  std::unique_lock lock(mutex_);
  if (stopping_) return UINT32_MAX;
  request_ = request;
  answer_.reset();
  changed_.notify_all();
  lock.unlock();
  look_();
  lock.lock();
  changed_.wait(lock, [this] { return answer_ || stopping_; });
  request_.reset();
  return answer_.value_or(UINT32_MAX);
}

void VcpuThread::ended(End end) {
  std::unique_lock lock(mutex_);
  end_ = end;
  changed_.notify_all();
  lock.unlock();
  look_();
}

}  // namespace vhostnet
