#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace strata::tool {

/// The command line of `strata generate`, as it was given.
struct GenerateOptions {
  std::optional<std::filesystem::path> model;    ///< Hugging Face directory
  std::optional<std::filesystem::path> adapter;  ///< PEFT's directory, of adapters of the model

  // What is continued: exactly one of these.
  std::optional<std::string> prompt;
  std::optional<std::filesystem::path> prompt_file;  ///< a prompt a line
  std::optional<std::filesystem::path> tokens;       ///< the ids of a prompt a line

  std::int64_t max_new_tokens = 100;
  double temperature = 0.0;
  double top_p = 1.0;
  std::int64_t top_k = 0;  ///< 0: all
  std::uint64_t seed = 1337;
  bool ignore_eos = false;
  bool json = false;

  std::optional<std::filesystem::path> config;  ///< ds_config.json
  std::optional<std::string> budget;
  std::optional<std::string> kv_budget;
  std::vector<std::filesystem::path> nvme;
};

/// Adds the subcommand `generate` to `app`; parsing fills `options`, which must live as long.
CLI::App* add_generate_command(CLI::App& app, GenerateOptions& options);

/// Throws ConfigError, naming every missing option, unless the options make a whole run.
void require_complete(const GenerateOptions& options);

}  // namespace strata::tool
