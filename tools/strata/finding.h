#pragma once

#include <string>
#include <string_view>

namespace strata::tool {

enum class Severity {
  kOk,
  kNote,    ///< works, but slower than it could, or worth knowing before a run
  kProblem  ///< a run fails by it, or is in danger
};

[[nodiscard]] constexpr std::string_view name_of(Severity severity) {
  return severity == Severity::kOk ? "ok" : severity == Severity::kNote ? "note" : "problem";
}

/// The outcome of one check of `strata doctor`.
struct Finding {
  std::string check;  ///< "io_uring"
  Severity severity = Severity::kOk;
  std::string found;
  std::string cure = {};  ///< a command, or what to do where no command does; "" with kOk
};

}  // namespace strata::tool
