// What each file of native/wrap adds to the addon's exports.
#pragma once

#include <napi.h>

namespace vhostnet::wrap {

void export_files(Napi::Env env, Napi::Object exports);
void export_memory(Napi::Env env, Napi::Object exports);
void export_vhost(Napi::Env env, Napi::Object exports);
void export_tun(Napi::Env env, Napi::Object exports);
void export_poller(Napi::Env env, Napi::Object exports);
void export_kvm(Napi::Env env, Napi::Object exports);
void export_vcpu(Napi::Env env, Napi::Object exports);
void export_registers(Napi::Env env, Napi::Object exports);
void export_ring(Napi::Env env, Napi::Object exports);
void export_sampler(Napi::Env env, Napi::Object exports);

}  // namespace vhostnet::wrap
