#include "exit_code.h"

#include "interruption.h"
#include "strata/base/error.h"

namespace strata::tool {

ExitCode exit_code_of(const std::exception& error) {
  if (dynamic_cast<const ConfigError*>(&error) != nullptr) return ExitCode::kUsage;
  if (dynamic_cast<const BudgetError*>(&error) != nullptr) return ExitCode::kBudget;
  if (dynamic_cast<const Interrupted*>(&error) != nullptr) return ExitCode::kInterrupted;
  return ExitCode::kFailed;
}

}  // namespace strata::tool
