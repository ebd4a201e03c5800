#pragma once

#include <filesystem>

namespace CLI {
class App;
}

namespace strata::tool {

/// The command line of `strata inspect`, as it was given.
struct InspectOptions {
  std::filesystem::path path;  ///< a checkpoint, a directory of them, a model's, or a file
  bool verify = false;         ///< every byte is read
};

/// Adds the subcommand `inspect` to `app`; parsing fills `options`, which must live as long.
CLI::App* add_inspect_command(CLI::App& app, InspectOptions& options);

}  // namespace strata::tool
