#include "tier_options.h"

#include <CLI/CLI.hpp>

#include "option_checks.h"

namespace strata::tool {

CLI::Option* add_nvme_option(CLI::App& command, std::vector<std::filesystem::path>& directories) {
  return command
      .add_option("--nvme", directories,
                  "Directory of the nvme tier; repeat it to stripe over several disks; over the "
                  "config's directories")
      ->type_name("DIR")
      ->check(path_name())
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
}

CLI::Option* add_budget_option(CLI::App& command, std::optional<std::string>& budget) {
  return command
      .add_option("--budget", budget,
                  "Bytes that each tier may hold, e.g. host=4GiB,nvme=60GiB,device=20GiB; over the "
                  "config's strata.budget")
      ->type_name("TIER=SIZE,...");
}

}  // namespace strata::tool
