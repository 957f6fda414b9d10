// The addon: what each part exports, and nothing per process.
#include <napi.h>

#include "wrap/exports.h"

namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  vhostnet::wrap::export_files(env, exports);
  vhostnet::wrap::export_memory(env, exports);
  vhostnet::wrap::export_vhost(env, exports);
  vhostnet::wrap::export_tun(env, exports);
  vhostnet::wrap::export_poller(env, exports);
  vhostnet::wrap::export_kvm(env, exports);
  vhostnet::wrap::export_vcpu(env, exports);
  vhostnet::wrap::export_registers(env, exports);
  vhostnet::wrap::export_ring(env, exports);
  vhostnet::wrap::export_sampler(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(vhost_net, initialize)
