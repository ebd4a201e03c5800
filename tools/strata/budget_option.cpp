#include "budget_option.h"

#include <set>
#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tool {
namespace {

[[noreturn]] void refuse(std::string_view part, const std::string& why) {
  throw ConfigError("--budget: \"" + std::string(part) + "\": " + why +
                    "; write it like host=4GiB,nvme=60GiB,device=20GiB");
}

std::optional<std::uint64_t>& budget_of(std::string_view tier, std::string_view part,
                                        formats::StrataConfig& config) {
  if (tier == "device") return config.device_budget_bytes;
  if (tier == "host") return config.host_budget_bytes;
  if (tier == "nvme") return config.nvme_budget_bytes;
  refuse(part, "there is no such tier");
}

std::uint64_t size_of(std::string_view size, std::string_view part) {
  try {
    return parse_bytes(size);
  } catch (const ConfigError& error) {
    refuse(part, error.what());
  }
}

}  // namespace

void apply_budget_option(std::string_view text, formats::StrataConfig& config) {
  std::set<std::string_view> seen;
  for (bool last = false; !last;) {
    const std::size_t comma = text.find(',');
    last = comma == std::string_view::npos;
    const std::string_view part = text.substr(0, comma);
    if (!last) text.remove_prefix(comma + 1);

    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) refuse(part, "no \"=\"");
    const std::string_view tier = part.substr(0, equals);
    std::optional<std::uint64_t>& budget = budget_of(tier, part, config);
    if (!seen.insert(tier).second) refuse(part, "this tier is named twice");
    budget = size_of(part.substr(equals + 1), part);
  }
}

}  // namespace strata::tool
