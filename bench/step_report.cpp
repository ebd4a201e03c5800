#include "step_report.h"

#include <algorithm>
#include <functional>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string_view>

#include "median.h"
#include "strata/base/units.h"

namespace strata::bench {

namespace {

double median_of(const ContestantResult& result,
                 const std::function<double(const StepSample&)>& value) {
  std::vector<double> values;
  for (const StepSample& sample : result.samples) values.push_back(value(sample));
  return tool::median(std::move(values));
}

double median_seconds(const ContestantResult& result) {
  return median_of(result, [](const StepSample& sample) { return sample.seconds; });
}

/// Steps of one round follow one another within seconds, so what else the machine does cancels out.
double median_ratio(const ContestantResult& result, const ContestantResult& reference) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < result.samples.size(); ++i) {
    ratios.push_back(result.samples[i].seconds / reference.samples[i].seconds);
  }
  return tool::median(std::move(ratios));
}

const HopReading& hop_of(const StepSample& sample, Hop hop) {
  return sample.hops[static_cast<std::size_t>(hop)];
}

double wait_share(const StepSample& sample) {
  const auto waited = hop_of(sample, Hop::kFetch).wait_ns + hop_of(sample, Hop::kFlush).wait_ns +
                      hop_of(sample, Hop::kStep).wait_ns;
  return static_cast<double>(waited) * 1e-9 / sample.seconds;
}

double faults_in_thousands(const StepSample& sample) {
  return static_cast<double>(sample.minor_faults) * 1e-3;
}

double moved_gb(const ContestantResult& result, Hop hop) {
  return median_of(result, [&](const StepSample& sample) {
    return static_cast<double>(hop_of(sample, hop).bytes) * 1e-9;
  });
}

bool is_in_memory(const ContestantResult& result) {
  return result.name.starts_with("memory") || result.name.starts_with("arithmetic");
}
bool trains(const ContestantResult& result) { return result.name != "empty"; }
bool has_hops(const ContestantResult& result) { return trains(result) && !is_in_memory(result); }

void print_steps(std::ostream& out, const std::vector<ContestantResult>& results) {
  out << "| contestant | step, s |";
  for (const ContestantResult& reference : results) {
    if (is_in_memory(reference)) out << " / " << reference.name << " |";
  }
  out << " waits for disk | read, GB | written, GB | in the kernel, s | faults, thousands | peak "
         "RSS "
         "|\n|---|---|";
  out << std::string("---|---|---|---|---|---|");
  for (const ContestantResult& reference : results) out << (is_in_memory(reference) ? "---|" : "");
  out << "\n" << std::fixed;
  for (const ContestantResult& result : results) {
    out << "| " << result.name << ": " << result.description << " | ";
    if (trains(result)) out << std::setprecision(3) << median_seconds(result);
    out << " |" << std::setprecision(2);
    for (const ContestantResult& reference : results) {
      if (!is_in_memory(reference)) continue;
      out << " ";
      if (trains(result)) out << median_ratio(result, reference);
      out << " |";
    }
    if (has_hops(result)) {
      out << " " << std::setprecision(0) << 100 * median_of(result, wait_share) << " % | "
          << std::setprecision(2) << moved_gb(result, Hop::kFetch) << " | "
          << moved_gb(result, Hop::kFlush);
    } else {
      out << " | |";
    }
    out << " | " << median_of(result, &StepSample::system_seconds) << " | " << std::setprecision(1)
        << median_of(result, faults_in_thousands) << " | " << format_bytes(result.peak_rss_bytes)
        << " |\n";
  }
}

void print_hops(std::ostream& out, const ContestantResult& result) {
  out << "\n| " << result.name << ": hop | moved, GB | busy, s | engine waits, s |\n"
      << "|---|---|---|---|\n"
      << std::setprecision(3);
  for (std::size_t i = 0; i < kHopCount; ++i) {
    const auto seconds = [&](std::uint64_t HopReading::*field) {
      return median_of(result, [&](const StepSample& sample) {
        return static_cast<double>(sample.hops[i].*field) * 1e-9;
      });
    };
    out << "| " << kHopNames[i] << " | " << seconds(&HopReading::bytes) << " | "
        << seconds(&HopReading::busy_ns) << " | " << seconds(&HopReading::wait_ns) << " |\n";
  }
}

const ContestantResult* find(const std::vector<ContestantResult>& results, std::string_view name) {
  const auto found = std::ranges::find(results, name, &ContestantResult::name);
  return found == results.end() ? nullptr : &*found;
}

void print_memory(std::ostream& out, const std::vector<ContestantResult>& results) {
  const ContestantResult* nvme = find(results, "nvme");
  const ContestantResult* empty = find(results, "empty");
  if (nvme == nullptr || empty == nullptr) return;
  out << "\nThe run on NVMe took " << format_bytes(nvme->peak_rss_bytes - empty->peak_rss_bytes)
      << " more than the empty program.\n";
}

}  // namespace

void print_report(std::ostream& out, const std::vector<ContestantResult>& results) {
  print_steps(out, results);
  for (const ContestantResult& result : results) {
    if (has_hops(result)) print_hops(out, result);
  }
  print_memory(out, results);
}

std::string report_json(const std::vector<ContestantResult>& results) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const ContestantResult& result : results) {
    nlohmann::ordered_json entry = {{"contestant", result.name},
                                    {"description", result.description},
                                    {"peak_rss_bytes", result.peak_rss_bytes},
                                    {"median_step_seconds", median_seconds(result)}};
    for (const ContestantResult& reference : results) {
      if (!is_in_memory(reference) || !trains(result)) continue;
      entry["median_ratio"][reference.name] = median_ratio(result, reference);
    }
    for (const StepSample& sample : result.samples) {
      nlohmann::ordered_json step = {{"seconds", sample.seconds},
                                     {"loss", sample.loss},
                                     {"system_seconds", sample.system_seconds},
                                     {"minor_faults", sample.minor_faults}};
      for (std::size_t i = 0; has_hops(result) && i < kHopCount; ++i) {
        const HopReading& hop = sample.hops[i];
        step["hops"][std::string(kHopNames[i])] = {
            {"bytes", hop.bytes}, {"busy_ns", hop.busy_ns}, {"wait_ns", hop.wait_ns}};
      }
      entry["steps"].push_back(std::move(step));
    }
    json.push_back(std::move(entry));
  }
  return json.dump(2) + "\n";
}

}  // namespace strata::bench
