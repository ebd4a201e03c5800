#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "doctor_options.h"
#include "finding.h"
#include "machine_checks.h"
#include "process.h"

namespace strata::tool {

/// What was found of one place: the machine, or a directory.
struct Examination {
  std::string place;  ///< "machine", or the directory as it was named
  std::vector<Finding> findings;
};

/// Prints the findings for people: every check in a line, its cure below it, and the sum.
void print_examinations(std::ostream& out, const std::vector<Examination>& examinations);

/// The same as JSON: {"places": [{"place", "findings": [{"check", "severity", "found", "cure"}]}],
/// "notes": N, "problems": N}. "severity" is "ok", "note" or "problem"; "cure" is null with "ok".
void print_examinations_json(std::ostream& out, const std::vector<Examination>& examinations);

/// Runs `strata doctor`, and returns kFailed when there is a problem. `root` is where /proc and
/// /sys are looked for. Never throws for what it finds.
[[nodiscard]] ExitCode doctor(const DoctorOptions& options, const BuildFacts& build,
                              std::ostream& out, const std::filesystem::path& root = "/");

}  // namespace strata::tool
