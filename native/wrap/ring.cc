// The driver's ring loop for JavaScript.
#include <algorithm>

#include "sys/driver_ring.h"
#include "wrap/convert.h"
#include "wrap/exports.h"
#include "wrap/handle.h"

namespace vhostnet::wrap {

namespace {

using Napi::CallbackInfo;
using Napi::Value;

class RingHandle final : public Handle {
 public:
  static constexpr napi_type_tag kTag = {0xd2e85f3c716a49b0, 0x6f0d9b42c8e1a735};
  static constexpr const char* kName = "ring";
  RingHandle(Napi::Env env, std::unique_ptr<DriverRing> created, const Napi::Value& event)
      : Handle(env),
        ring(std::move(created)),
        kick(to_handle<FdHandle>(event)),
        kick_reference_(Napi::Reference<Napi::Value>::New(event, 1)) {}

  std::unique_ptr<DriverRing> ring;
  const FdHandle& kick;

 private:
  void release() override {
    ring.reset();
    kick_reference_.Reset();
  }

  Napi::Reference<Napi::Value> kick_reference_;
};

// The ring writes to the number of its kick fd, which may be another file's once that is closed.
DriverRing& to_ring(const Value& value) {
  RingHandle& handle = to_open_handle<RingHandle>(value);
  if (handle.kick.closed()) throw_closed(value.Env(), "kick of the ring");
  return *handle.ring;
}

DriverRing::Burst to_burst(const CallbackInfo& info, size_t packets) {
  auto segments = to_uint16s(info[1], "segments");
  auto offsets = to_uint32s(info[2], "offsets");
  auto lengths = to_uint32s(info[3], "lengths");
  return {segments.data(), std::min(packets, segments.size()), offsets.data(), lengths.data(),
          std::min(offsets.size(), lengths.size())};
}

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

Value allocate(const CallbackInfo& info) {
  auto offsets = to_uint32s(info[1], "offsets");
  return from_number(info.Env(), to_ring(info[0]).allocate(offsets.data(), static_cast<uint32_t>(offsets.size())));
}

Value release(const CallbackInfo& info) {
  auto offsets = to_uint32s(info[1], "offsets");
  uint32_t count = to_uint32(info[2], "count");
  if (count > offsets.size()) throw_out_of_range(info.Env(), "count", "is over the length of offsets");
  value_or_throw(info.Env(), to_ring(info[0]).release(offsets.data(), count));
  return info.Env().Undefined();
}

Value send(const CallbackInfo& info) {
  uint32_t packets = to_uint32(info[4], "packets");
  auto burst = to_burst(info, packets);
  if (packets > burst.packets) throw_out_of_range(info.Env(), "packets", "is over the length of segments");
  return from_number(info.Env(), value_or_throw(info.Env(), to_ring(info[0]).send(burst)));
}

Value receive(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), to_ring(info[0]).receive(to_burst(info, SIZE_MAX))));
}

Value reclaim(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), to_ring(info[0]).reclaim()));
}

Value post(const CallbackInfo& info) {
  return from_number(info.Env(), value_or_throw(info.Env(), to_ring(info[0]).post()));
}

Value arm(const CallbackInfo& info) {
  uint32_t delay = to_uint32(info[1], "delay");
  if (delay >= 32768) throw_out_of_range(info.Env(), "delay", "is not under 32768");
  return from_bool(info.Env(), to_ring(info[0]).arm(static_cast<uint16_t>(delay)));
}

Value disarm(const CallbackInfo& info) {
  to_ring(info[0]).disarm();
  return info.Env().Undefined();
}

Value counters(const CallbackInfo& info) {
  const DriverRing& ring = *to_open_handle<RingHandle>(info[0]).ring;
  const DriverRing::Counters& counters = ring.counters();
  Napi::Object object = Napi::Object::New(info.Env());
  auto set = [&](const char* name, uint64_t value) { object.Set(name, static_cast<double>(value)); };
  set("available", counters.available);
  set("used", counters.used);
  set("frames", counters.frames);
  set("bytes", counters.bytes);
  set("kicks", counters.kicks);
  set("kicksSuppressed", counters.kicks_suppressed);
  set("availIdx", ring.available_index());
  set("usedIdx", ring.used_index());
  set("freeBuffers", ring.free_buffers());
  return object;
}

Value close_ring(const CallbackInfo& info) {
  to_handle<RingHandle>(info[0]).close();
  return info.Env().Undefined();
}

constexpr Export kExports[] = {
    {"ringCreate", create},   {"ringAllocate", allocate}, {"ringRelease", release},  {"ringSend", send},
    {"ringReclaim", reclaim}, {"ringPost", post},         {"ringReceive", receive},  {"ringArm", arm},
    {"ringDisarm", disarm},   {"ringCounters", counters}, {"closeRing", close_ring},
};

}  // namespace

void export_ring(Napi::Env env, Napi::Object exports) { export_functions(env, exports, kExports); }

}  // namespace vhostnet::wrap
