#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "strata/base/number_format.h"

namespace CLI {
class App;
}

namespace strata::tool {

enum class ExportTarget { kHuggingFace, kDcp };

/// The command line of `strata export`, as it was given.
struct ExportOptions {
  /// A checkpoint, or a directory of them; with `merge` an adapter of PEFT's.
  std::filesystem::path checkpoint;
  std::optional<ExportTarget> to;
  bool merge = false;
  std::filesystem::path output;
  // The model that was trained, for kHuggingFace: one of these. With `merge` the base: `model`.
  std::optional<std::filesystem::path> model;
  std::optional<std::filesystem::path> model_config;
  std::optional<std::string> preset;
  std::optional<Precision> dtype;  ///< of the weights; left out: see --help
};

/// Throws ConfigError unless the options say what is exported to what.
void require_complete(const ExportOptions& options);

/// Adds the subcommand `export` to `app`; parsing fills `options`, which must live as long.
CLI::App* add_export_command(CLI::App& app, ExportOptions& options);

}  // namespace strata::tool
