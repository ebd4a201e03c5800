#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace strata::tool {

/// The --machine that is no file: a file of that name is "./here".
inline constexpr std::string_view kMachineHere = "here";

/// The command line of `strata plan`, as it was given.
struct PlanOptions {
  // The model: exactly one of these.
  std::optional<std::filesystem::path> model;         ///< Hugging Face directory
  std::optional<std::filesystem::path> model_config;  ///< config.json
  std::optional<std::string> preset;                  ///< name of a shape
  std::optional<std::string> parameters;              ///< a number of them: "70B"

  std::optional<std::filesystem::path> config;        ///< ds_config.json
  std::optional<std::filesystem::path> machine;       ///< machine file, or kMachineHere
  std::vector<std::filesystem::path> nvme;            ///< directories, over the config's
  std::optional<std::filesystem::path> save_machine;  ///< where to write what was measured
  int nodes = 1;
  std::optional<std::int64_t> seq_len;
  std::optional<std::string> budget;
  bool json = false;

  /// Whether the machine that this runs on is to be measured.
  [[nodiscard]] bool measures() const { return machine && *machine == kMachineHere; }
};

/// Adds the subcommand `plan` to `app`; parsing fills `options`, which must live as long.
CLI::App* add_plan_command(CLI::App& app, PlanOptions& options);

/// Throws ConfigError, saying how to get what is missing, unless the options make a whole question.
void require_complete(const PlanOptions& options);

}  // namespace strata::tool
