#pragma once

#include <filesystem>
#include <vector>

namespace CLI {
class App;
}

namespace strata::tool {

/// The command line of `strata doctor`, as it was given.
struct DoctorOptions {
  std::vector<std::filesystem::path> directories;  ///< that are to hold states
  bool json = false;
};

/// Adds the subcommand `doctor` to `app`; parsing fills `options`, which must live as long.
CLI::App* add_doctor_command(CLI::App& app, DoctorOptions& options);

}  // namespace strata::tool
