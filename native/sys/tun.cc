#include "sys/tun.h"

#include <linux/if.h>
#include <linux/if_tun.h>

#include <cstring>

#include "sys/ioctl.h"

namespace vhostnet {

static_assert(TUNSETIFF == 0x400454ca && TUNGETIFF == 0x800454d2 && TUNGETFEATURES == 0x800454cf);
static_assert(TUNSETOFFLOAD == 0x400454d0 && TUNSETPERSIST == 0x400454cb);
static_assert(TUNSETVNETHDRSZ == 0x400454d8 && TUNGETVNETHDRSZ == 0x800454d7);
static_assert(TUNSETSNDBUF == 0x400454d4 && TUNGETSNDBUF == 0x800454d3);
static_assert(TUNSETQUEUE == 0x400454d9 && TUNSETVNETLE == 0x400454dc && TUNGETVNETLE == 0x800454dd &&
              TUNSETCARRIER == 0x400454e2);
static_assert(IFNAMSIZ == 16 && sizeof(ifreq) == 40);

namespace {

TunInterface interface_of(const ifreq& request) {
  return {std::string(request.ifr_name, ::strnlen(request.ifr_name, IFNAMSIZ)),
          static_cast<uint16_t>(request.ifr_flags)};
}

}  // namespace

Result<uint32_t> tun_get_features(int fd) {
  uint32_t features = 0;
  if (auto done = control(fd, TUNGETFEATURES, "TUNGETFEATURES", &features); !done.ok()) return done.error();
  return features;
}

Result<TunInterface> tun_set_iff(int fd, const std::string& name, uint16_t flags) {
  ifreq request{};
  if (name.size() >= IFNAMSIZ) return Error{ENAMETOOLONG, "TUNSETIFF", {}};
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = static_cast<short>(flags);
  if (auto done = control(fd, TUNSETIFF, "TUNSETIFF", &request); !done.ok()) return done.error();
  return interface_of(request);
}

Result<TunInterface> tun_get_iff(int fd) {
  ifreq request{};
  if (auto done = control(fd, TUNGETIFF, "TUNGETIFF", &request); !done.ok()) return done.error();
  return interface_of(request);
}

Result<void> tun_set_queue(int fd, uint16_t flags) {
  ifreq request{};
  request.ifr_flags = static_cast<short>(flags);
  return control(fd, TUNSETQUEUE, "TUNSETQUEUE", &request);
}

Result<void> tun_set_offload(int fd, uint32_t offload) {
  return control(fd, TUNSETOFFLOAD, "TUNSETOFFLOAD", static_cast<unsigned long>(offload));
}

Result<void> tun_set_vnet_hdr_sz(int fd, int32_t size) {
  return control(fd, TUNSETVNETHDRSZ, "TUNSETVNETHDRSZ", &size);
}

Result<int32_t> tun_get_vnet_hdr_sz(int fd) {
  int32_t size = 0;
  if (auto done = control(fd, TUNGETVNETHDRSZ, "TUNGETVNETHDRSZ", &size); !done.ok()) return done.error();
  return size;
}

Result<void> tun_set_vnet_le(int fd, bool little_endian) {
  int value = little_endian;
  return control(fd, TUNSETVNETLE, "TUNSETVNETLE", &value);
}

Result<bool> tun_get_vnet_le(int fd) {
  int value = 0;
  if (auto done = control(fd, TUNGETVNETLE, "TUNGETVNETLE", &value); !done.ok()) return done.error();
  return value != 0;
}

Result<void> tun_set_sndbuf(int fd, int32_t bytes) { return control(fd, TUNSETSNDBUF, "TUNSETSNDBUF", &bytes); }

Result<int32_t> tun_get_sndbuf(int fd) {
  int32_t bytes = 0;
  if (auto done = control(fd, TUNGETSNDBUF, "TUNGETSNDBUF", &bytes); !done.ok()) return done.error();
  return bytes;
}

Result<void> tun_set_persist(int fd, bool persist) {
  return control(fd, TUNSETPERSIST, "TUNSETPERSIST", static_cast<unsigned long>(persist));
}

Result<void> tun_set_carrier(int fd, bool carrier) {
  int value = carrier;
  return control(fd, TUNSETCARRIER, "TUNSETCARRIER", &value);
}

}  // namespace vhostnet
