#pragma once

#include <filesystem>
#include <optional>

namespace CLI {
class App;
}

namespace strata::tool {

/// The command line of `strata report`, as it was given.
struct ReportOptions {
  std::filesystem::path run;                    ///< the directory of a run
  std::optional<std::filesystem::path> output;  ///< the page; default: report.html in it
};

/// Adds the subcommand `report` to `app`; parsing fills `options`, which must live as long.
CLI::App* add_report_command(CLI::App& app, ReportOptions& options);

}  // namespace strata::tool
