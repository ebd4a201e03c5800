#include "doctor.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <ostream>

#include "directory_checks.h"
#include "plural.h"

namespace strata::tool {
namespace {

std::size_t count_of(Severity severity, const std::vector<Examination>& examinations) {
  std::size_t count = 0;
  for (const Examination& examination : examinations) {
    count += static_cast<std::size_t>(
        std::count_if(examination.findings.begin(), examination.findings.end(),
                      [&](const Finding& finding) { return finding.severity == severity; }));
  }
  return count;
}

std::vector<Finding> examine_machine(const BuildFacts& build, const std::filesystem::path& root) {
  return {check_kernel(root),        check_io_uring(root, aio::io_uring_support()),
          check_locked_memory(root), check_aio(root),
          check_huge_pages(root),    check_reserved_pages(root),
          check_memory(root),        check_swap(root),
          check_gpu(root),           check_libtorch(build),
          check_ranks(build)};
}

}  // namespace

void print_examinations(std::ostream& out, const std::vector<Examination>& examinations) {
  std::size_t width = 0;
  for (const Examination& examination : examinations) {
    for (const Finding& finding : examination.findings) {
      width = std::max(width, finding.check.size());
    }
  }
  const std::string indent(2 + 9 + width + 2, ' ');
  for (const Examination& examination : examinations) {
    out << examination.place << '\n';
    for (const Finding& finding : examination.findings) {
      out << "  " << std::left << std::setw(9) << name_of(finding.severity)
          << std::setw(static_cast<int>(width) + 2) << finding.check << finding.found << '\n';
      if (!finding.cure.empty()) out << indent << "cure: " << finding.cure << '\n';
    }
    out << '\n';
  }
  const std::size_t problems = count_of(Severity::kProblem, examinations);
  out << (problems == 0 ? "no problem" : counted(problems, "problem")) << ", "
      << counted(count_of(Severity::kNote, examinations), "note") << '\n';
}

void print_examinations_json(std::ostream& out, const std::vector<Examination>& examinations) {
  nlohmann::ordered_json root = {{"places", nlohmann::ordered_json::array()}};
  for (const Examination& examination : examinations) {
    nlohmann::ordered_json findings = nlohmann::ordered_json::array();
    for (const Finding& finding : examination.findings) {
      nlohmann::ordered_json entry = {{"check", finding.check},
                                      {"severity", name_of(finding.severity)},
                                      {"found", finding.found},
                                      {"cure", nullptr}};
      if (!finding.cure.empty()) entry["cure"] = finding.cure;
      findings.push_back(std::move(entry));
    }
    root["places"].push_back({{"place", examination.place}, {"findings", std::move(findings)}});
  }
  root["notes"] = count_of(Severity::kNote, examinations);
  root["problems"] = count_of(Severity::kProblem, examinations);
  // Names of directories may be any bytes.
  out << root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

ExitCode doctor(const DoctorOptions& options, const BuildFacts& build, std::ostream& out,
                const std::filesystem::path& root) {
  std::vector<Examination> examinations = {{"machine", examine_machine(build, root)}};
  for (const std::filesystem::path& directory : options.directories) {
    examinations.push_back({directory.string(), check_directory(root, look_at(directory))});
  }
  (options.json ? print_examinations_json : print_examinations)(out, examinations);
  return count_of(Severity::kProblem, examinations) > 0 ? ExitCode::kFailed : ExitCode::kDone;
}

}  // namespace strata::tool
