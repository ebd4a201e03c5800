#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "plan.h"

namespace strata::tool {

/// What `strata plan` wrote, and how it ended.
struct PlanOutcome {
  ExitCode code;
  std::string text;
  [[nodiscard]] nlohmann::json parsed() const { return nlohmann::json::parse(text); }
};

/// Runs `strata plan` with these arguments. Throws what it throws.
inline PlanOutcome run_plan(std::vector<std::string> arguments, const Measuring& measuring = {}) {
  CLI::App app("strata");
  PlanOptions options;
  add_plan_command(app, options);
  arguments.insert(arguments.begin(), "plan");
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the end
  app.parse(arguments);
  std::ostringstream out, log_text;
  Logger log(log_text);
  const ExitCode code = plan(options, measuring, out, log);
  return {code, out.str()};
}

}  // namespace strata::tool
