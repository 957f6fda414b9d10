// The driver's ring loop for JavaScript.
#include <algorithm>
#include <iterator>

#include "sys/ring_loop.h"
#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

class RingHandle final : public Handle {
 public:
  static constexpr char kKind = 0;
  static constexpr const char* kName = "ring";
  RingHandle(Napi::Env env, std::unique_ptr<DriverRing> created, const Napi::Value& event)
      : Handle(env), ring(std::move(created)) {
    keep(event);
  }

  const FdHandle& kick() const { return *kick_; }
  void set_kick(const Napi::Value& event) {
    ring->ring().set_kick(to_fd(event));
    keep(event);
  }

  std::unique_ptr<DriverRing> ring;
  std::unique_ptr<RingLoop> loop;

 private:
  void keep(const Napi::Value& event) {
    kick_ = &to_handle<FdHandle>(event);
    kick_reference_ = Napi::Reference<Napi::Value>::New(event, 1);
  }

  void release() override {
    loop.reset();
    ring.reset();
    kick_reference_.Reset();
  }

  const FdHandle* kick_ = nullptr;
  Napi::Reference<Napi::Value> kick_reference_;
};

// The ring writes to the number of its kick fd, which may be another file's once that is closed. While its loop runs,
// the ring is that thread's.
DriverRing& to_ring(const Value& value) {
  RingHandle& handle = to_open_handle<RingHandle>(value);
  if (handle.kick().closed()) throw_closed(value.Env(), "kick of the ring");
  if (handle.loop) throw_error(value.Env(), Error{EBUSY, "virtqueue", "its loop is running"});
  return *handle.ring;
}

// Words of a burst: how many packets it holds at most, packets and segments in it; then, by packet, numbers of
// segments; then as many offsets as lengths.
class BurstWords {
 public:
  explicit BurstWords(const Value& value) : words_(to_uint32s(value, "burst")) {
    if (words_.size() < kHeader || words_[0] > words_.size() - kHeader)
      throw_out_of_range(value.Env(), "burst", "is shorter than it says");
  }

  DriverRing::Burst all() const {
    size_t packets = words_[0];
    size_t segments = (words_.size() - kHeader - packets) / 2;
    uint32_t* arrays = words_.data() + kHeader;
    return {arrays, packets, arrays + packets, arrays + packets + segments, segments};
  }
  uint32_t packets() const { return words_[1]; }
  void set(uint32_t packets, uint32_t segments) {
    words_[1] = packets;
    words_[2] = segments;
  }

 private:
  static constexpr size_t kHeader = 3;
  std::span<uint32_t> words_;
};

Value create(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object object = to_object(info[0], "config");
  auto size = [&](const char* name) { return to_size(object.Get(name), name); };
  auto number = [&](const char* name) { return to_uint32(object.Get(name), name); };
  auto flag = [&](const char* name) { return to_bool(object.Get(name), name); };
  DriverRing::Config config{};
  config.mapping = to_open_handle<MappingHandle>(object.Get("mapping")).mapping;
  config.guest_address = size("guestAddress");
  config.num = number("num");
  config.desc = size("desc");
  config.avail = size("avail");
  config.used = size("used");
  config.indirect_tables = size("indirectTables");
  config.pool = size("pool");
  config.buffer_size = number("bufferSize");
  config.buffer_count = number("bufferCount");
  config.max_segments = number("maxSegments");
  config.vnet_hdr_len = number("vnetHdrLen");
  config.device_writes = flag("deviceWrites");
  config.event_idx = flag("eventIdx");
  config.indirect = flag("indirect");
  config.mrg_rxbuf = flag("mrgRxbuf");
  config.kick = to_fd(object.Get("kick"));
  auto ring = value_or_throw(env, DriverRing::create(std::move(config)));
  return from_handle(env, std::make_unique<RingHandle>(env, std::move(ring), object.Get("kick")));
}

Value set_kick(const CallbackInfo& info) {
  to_ring(info[0]);
  to_handle<RingHandle>(info[0]).set_kick(info[1]);
  return info.Env().Undefined();
}

Value allocate(const CallbackInfo& info) {
  DriverRing& ring = to_ring(info[0]);
  auto offsets = to_uint32s(info[1], "offsets");
  uint32_t count = to_uint32(info[2], "count");
  if (count > offsets.size()) throw_out_of_range(info.Env(), "count", "is over the length of offsets");
  value_or_throw(info.Env(), ring.reclaim());
  return from_number(info.Env(), ring.allocate(offsets.data(), count));
}

Value prepare(const CallbackInfo& info) {
  DriverRing& ring = to_ring(info[0]);
  BurstWords words(info[1]);
  uint32_t length = to_uint32(info[2], "length");
  value_or_throw(info.Env(), ring.reclaim());
  uint32_t packets = ring.prepare(words.all(), length);
  words.set(packets, packets);
  return from_number(info.Env(), packets);
}

Value release(const CallbackInfo& info) {
  DriverRing& ring = to_ring(info[0]);
  auto offsets = to_uint32s(info[1], "offsets");
  uint32_t count = to_uint32(info[2], "count");
  if (count > offsets.size()) throw_out_of_range(info.Env(), "count", "is over the length of offsets");
  value_or_throw(info.Env(), ring.release(offsets.data(), count));
  return info.Env().Undefined();
}

Value send(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  DriverRing& ring = to_ring(info[0]);
  BurstWords words(info[1]);
  uint32_t first = to_uint32(info[2], "firstPacket");
  uint32_t segment = to_uint32(info[3], "firstSegment");
  DriverRing::Burst all = words.all();
  if (words.packets() > all.packets) throw_out_of_range(env, "packets", "is over what the burst holds");
  if (first > words.packets()) throw_out_of_range(env, "firstPacket", "is over the number of packets");
  if (segment > all.segment_count) throw_out_of_range(env, "firstSegment", "is over what the burst holds");
  DriverRing::Burst rest = {all.segments + first, words.packets() - first, all.offsets + segment, all.lengths + segment,
                            all.segment_count - segment};
  return from_number(env, value_or_throw(env, ring.send(rest)));
}

Value receive(const CallbackInfo& info) {
  Napi::Env env = info.Env();
  DriverRing& ring = to_ring(info[0]);
  BurstWords words(info[1]);
  DriverRing::Received received = value_or_throw(env, ring.receive(words.all()));
  words.set(received.packets, received.segments);
  return from_number(env, received.packets);
}

Value reclaim(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), to_ring(info[0]).reclaim()));
}

Value post(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), to_ring(info[0]).post()));
}

uint16_t to_delay(const Value& value) {
  uint32_t delay = to_uint32(value, "delay");
  if (delay >= 32768) throw_out_of_range(value.Env(), "delay", "is not under 32768");
  return static_cast<uint16_t>(delay);
}

Value arm(const CallbackInfo& info) { return from_bool(info.Env(), to_ring(info[0]).ring().arm(to_delay(info[1]))); }

Value disarm(const CallbackInfo& info) {
  to_ring(info[0]).ring().disarm();
  return info.Env().Undefined();
}

Value spin(const CallbackInfo& info) {
  return from_bool(info.Env(), to_ring(info[0]).ring().spin(to_delay(info[1]), to_uint32(info[2], "microseconds")));
}

Value in_flight(const CallbackInfo& info) {
  return from_number(info.Env(), to_open_handle<RingHandle>(info[0]).ring->in_flight());
}

Value start_loop(const CallbackInfo& info) {
  RingHandle& handle = to_open_handle<RingHandle>(info[0]);
  Napi::Object object = to_object(info[1], "config");
  RingLoop::Config config{};
  config.ring = &to_ring(info[0]);
  config.call = to_fd(object.Get("call"));
  config.done = to_fd(object.Get("done"));
  config.frames = to_size(object.Get("frames"), "frames");
  config.batch = to_uint32(object.Get("batch"), "batch");
  config.delay = to_delay(object.Get("delay"));
  handle.loop = value_or_throw(info.Env(), RingLoop::start(config));
  return info.Env().Undefined();
}

Value finish_loop(const CallbackInfo& info) {
  RingHandle& handle = to_open_handle<RingHandle>(info[0]);
  auto loop = std::move(handle.loop);
  if (!loop) throw_error(info.Env(), Error{EINVAL, "virtqueue", "no loop is running"});
  return from_number(info.Env(), static_cast<double>(value_or_throw(info.Env(), loop->finish())));
}

Value counters(const CallbackInfo& info) {
  const DriverRing& ring = *to_open_handle<RingHandle>(info[0]).ring;
  auto target = to_doubles(info[1], "counters");
  const DriverRing::Counters& frames = ring.counters();
  const SplitRing::Counters& chains = ring.ring().counters();
  const uint64_t values[] = {
      chains.available,
      chains.used,
      frames.frames,
      frames.bytes,
      chains.kicks,
      chains.kicks_suppressed,
      chains.calls,
      ring.ring().available_index(),
      ring.ring().used_index(),
      ring.free_buffers(),
  };
  if (target.size() < std::size(values)) throw_out_of_range(info.Env(), "counters", "is too short");
  std::copy(std::begin(values), std::end(values), target.begin());
  return info.Env().Undefined();
}

Value close_ring(const CallbackInfo& info) {
  to_handle<RingHandle>(info[0]).close();
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"ringCreate", create},        {"ringSetKick", set_kick},
    {"ringPrepare", prepare},      {"ringAllocate", allocate},
    {"ringRelease", release},      {"ringSend", send},
    {"ringReclaim", reclaim},      {"ringPost", post},
    {"ringReceive", receive},      {"ringArm", arm},
    {"ringDisarm", disarm},        {"ringSpin", spin},
    {"ringInFlight", in_flight},   {"ringCounters", counters},
    {"ringStartLoop", start_loop}, {"ringFinishLoop", finish_loop},
    {"closeRing", close_ring},
};

}  // namespace

void export_ring(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
