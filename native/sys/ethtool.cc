#include "sys/ethtool.h"

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "sys/ioctl.h"
#include "sys/unique_fd.h"

namespace vhostnet {

namespace {

Result<void> ask(int socket, const std::string& ifname, const char* name, void* command) {
  ifreq request{};
  std::memcpy(request.ifr_name, ifname.data(), std::min<size_t>(ifname.size(), IFNAMSIZ - 1));
  request.ifr_data = static_cast<char*>(command);
  return control(socket, SIOCETHTOOL, name, &request);
}

}  // namespace

// Bit numbers of features differ between kernels, so the strings that name them are asked for first
// (net/ethtool/ioctl.c).
Result<std::vector<std::pair<std::string, bool>>> ethtool_features(const std::string& ifname) {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return system_error("socket");

  // Each command is a header followed by its answer.
  uint32_t count = 0;
  std::vector<uint8_t> set(sizeof(ethtool_sset_info) + sizeof count);
  ethtool_sset_info info{};
  info.cmd = ETHTOOL_GSSET_INFO;
  info.sset_mask = 1ull << ETH_SS_FEATURES;
  std::memcpy(set.data(), &info, sizeof info);
  auto counted = ask(socket.get(), ifname, "ETHTOOL_GSSET_INFO", set.data());
  if (!counted.ok()) return counted.error();
  std::memcpy(&count, set.data() + sizeof info, sizeof count);

  std::vector<uint8_t> strings(sizeof(ethtool_gstrings) + size_t{count} * ETH_GSTRING_LEN);
  ethtool_gstrings names{};
  names.cmd = ETHTOOL_GSTRINGS;
  names.string_set = ETH_SS_FEATURES;
  names.len = count;
  std::memcpy(strings.data(), &names, sizeof names);
  auto named = ask(socket.get(), ifname, "ETHTOOL_GSTRINGS", strings.data());
  if (!named.ok()) return named.error();

  uint32_t words = (count + 31) / 32;
  std::vector<uint8_t> blocks(sizeof(ethtool_gfeatures) + words * sizeof(ethtool_get_features_block));
  ethtool_gfeatures get{};
  get.cmd = ETHTOOL_GFEATURES;
  get.size = words;
  std::memcpy(blocks.data(), &get, sizeof get);
  auto got = ask(socket.get(), ifname, "ETHTOOL_GFEATURES", blocks.data());
  if (!got.ok()) return got.error();

  std::vector<std::pair<std::string, bool>> features;
  for (uint32_t bit = 0; bit < count; bit++) {
    const char* name = reinterpret_cast<char*>(strings.data() + sizeof names + size_t{bit} * ETH_GSTRING_LEN);
    ethtool_get_features_block block;
    std::memcpy(&block, blocks.data() + sizeof get + (bit / 32) * sizeof block, sizeof block);
    features.emplace_back(std::string(name, ::strnlen(name, ETH_GSTRING_LEN)), (block.active >> (bit % 32)) & 1);
  }
  return features;
}

}  // namespace vhostnet
