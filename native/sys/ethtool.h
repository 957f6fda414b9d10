// What a network device offloads, as `ethtool -k` shows it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sys/result.h"

namespace vhostnet {

// Every feature name of the device ("tx-tcp-segmentation", …) and whether it is active. ENODEV: no such device.
Result<std::vector<std::pair<std::string, bool>>> ethtool_features(const std::string& ifname);

}  // namespace vhostnet
