#include "sys/tun.h"

#include <linux/if.h>
#include <linux/if_tun.h>

#include <cstring>
#include <vector>

#include "sys/ioctl.h"

namespace vhostnet {

static_assert(TUNSETIFF == 0x400454ca && TUNGETIFF == 0x800454d2 && TUNGETFEATURES == 0x800454cf);
static_assert(TUNSETOFFLOAD == 0x400454d0 && TUNSETPERSIST == 0x400454cb);
static_assert(TUNSETVNETHDRSZ == 0x400454d8 && TUNGETVNETHDRSZ == 0x800454d7);
static_assert(TUNSETSNDBUF == 0x400454d4 && TUNGETSNDBUF == 0x800454d3);
static_assert(TUNSETQUEUE == 0x400454d9 && TUNSETVNETLE == 0x400454dc && TUNGETVNETLE == 0x800454dd &&
              TUNSETCARRIER == 0x400454e2);
static_assert(TUNSETOWNER == 0x400454cc && TUNSETGROUP == 0x400454ce && TUNSETLINK == 0x400454cd);
static_assert(TUNSETDEBUG == 0x400454c9 && TUNSETNOCSUM == 0x400454c8);
static_assert(TUNSETTXFILTER == 0x400454d1 && TUNATTACHFILTER == 0x401054d5 && TUNDETACHFILTER == 0x401054d6 &&
              TUNGETFILTER == 0x801054db);
static_assert(TUNSETIFINDEX == 0x400454da && TUNSETVNETBE == 0x400454de && TUNGETVNETBE == 0x800454df);
static_assert(TUNSETSTEERINGEBPF == 0x800454e0 && TUNSETFILTEREBPF == 0x800454e1 && TUNGETDEVNETNS == 0x54e3);
static_assert(sizeof(tun_filter) == 4 && sizeof(sock_fprog) == 16 && sizeof(sock_filter) == 8);
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

Result<void> tun_set_ifindex(int fd, uint32_t ifindex) { return control(fd, TUNSETIFINDEX, "TUNSETIFINDEX", &ifindex); }

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

Result<void> tun_set_vnet_be(int fd, bool big_endian) {
  int value = big_endian;
  return control(fd, TUNSETVNETBE, "TUNSETVNETBE", &value);
}

Result<bool> tun_get_vnet_be(int fd) {
  int value = 0;
  if (auto done = control(fd, TUNGETVNETBE, "TUNGETVNETBE", &value); !done.ok()) return done.error();
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

Result<void> tun_set_owner(int fd, uint32_t uid) {
  return control(fd, TUNSETOWNER, "TUNSETOWNER", static_cast<unsigned long>(uid));
}

Result<void> tun_set_group(int fd, uint32_t gid) {
  return control(fd, TUNSETGROUP, "TUNSETGROUP", static_cast<unsigned long>(gid));
}

Result<void> tun_set_carrier(int fd, bool carrier) {
  int value = carrier;
  return control(fd, TUNSETCARRIER, "TUNSETCARRIER", &value);
}

Result<void> tun_set_link(int fd, int32_t type) {
  return control(fd, TUNSETLINK, "TUNSETLINK", static_cast<unsigned long>(type));
}

Result<void> tun_set_debug(int fd, uint32_t messages) {
  return control(fd, TUNSETDEBUG, "TUNSETDEBUG", static_cast<unsigned long>(messages));
}

Result<void> tun_set_nocsum(int fd, bool disabled) {
  return control(fd, TUNSETNOCSUM, "TUNSETNOCSUM", static_cast<unsigned long>(disabled));
}

Result<int> tun_set_tx_filter(int fd, uint16_t flags, std::span<const uint8_t> addresses) {
  tun_filter header{};
  header.flags = flags;
  header.count = static_cast<uint16_t>(addresses.size() / 6);
  std::vector<uint8_t> filter(sizeof header + addresses.size());
  std::memcpy(filter.data(), &header, sizeof header);
  if (!addresses.empty()) std::memcpy(filter.data() + sizeof header, addresses.data(), addresses.size());
  return control_value(fd, TUNSETTXFILTER, "TUNSETTXFILTER", filter.data());
}

Result<void> tun_attach_filter(int fd, std::span<const sock_filter> program) {
  // The kernel does not write to it.
  sock_fprog argument{static_cast<uint16_t>(program.size()), const_cast<sock_filter*>(program.data())};
  return control(fd, TUNATTACHFILTER, "TUNATTACHFILTER", &argument);
}

Result<void> tun_detach_filter(int fd) {
  return control(fd, TUNDETACHFILTER, "TUNDETACHFILTER", static_cast<void*>(nullptr));
}

Result<uint16_t> tun_get_filter(int fd) {
  sock_fprog program{};
  if (auto done = control(fd, TUNGETFILTER, "TUNGETFILTER", &program); !done.ok()) return done.error();
  return program.len;
}

Result<void> tun_set_steering_ebpf(int fd, int program) {
  return control(fd, TUNSETSTEERINGEBPF, "TUNSETSTEERINGEBPF", &program);
}

Result<void> tun_set_filter_ebpf(int fd, int program) {
  return control(fd, TUNSETFILTEREBPF, "TUNSETFILTEREBPF", &program);
}

Result<UniqueFd> tun_get_dev_net_ns(int fd) {
  auto opened = control_value(fd, TUNGETDEVNETNS, "TUNGETDEVNETNS", static_cast<void*>(nullptr));
  if (!opened.ok()) return opened.error();
  return UniqueFd(opened.value());
}

}  // namespace vhostnet
