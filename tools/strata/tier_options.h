#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace strata::tool {

// Options of all commands that use the tiers.

/// Adds --nvme DIR, which may be repeated.
CLI::Option* add_nvme_option(CLI::App& command, std::vector<std::filesystem::path>& directories);
/// Adds --budget TIER=SIZE,...
CLI::Option* add_budget_option(CLI::App& command, std::optional<std::string>& budget);

}  // namespace strata::tool
