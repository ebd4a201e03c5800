#include "tune_outcome.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>

#include "number_text.h"
#include "report.h"
#include "strata/base/units.h"
#include "tuned_config.h"

namespace strata::nvme_bench {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr double kBillion = 1e9;
constexpr int kSettingWidth = 42;

std::string gigabytes(double bytes_per_second) { return fixed(bytes_per_second / 1e9, 2); }

/// Seconds of a step of a model of a billion parameters.
double step_seconds(const Candidate& candidate) { return candidate.seconds * kBillion; }

std::string step_text(const Candidate& candidate) {
  return std::isfinite(candidate.seconds) ? compact(step_seconds(candidate)) + " s" : "-";
}

/// The overlap as text, known once both were measured at once.
std::string mu_text(const Candidate& candidate) {
  return candidate.speeds.mixed_read > 0 ? fixed(candidate.speeds.mu(), 2) : "-";
}

double train_step_seconds(const PointResult& result) {
  return seconds_of_train_step(result, kBillion);
}

// ---- for a person ------------------------------------------------------------------------------

void write_candidates(std::ostream& out, const std::string& name,
                      std::span<const Candidate> candidates, const Candidate* chosen) {
  out << std::left << std::setw(kSettingWidth) << name << std::right
      << "  read GB/s  write GB/s  both at once GB/s     mu  step of 1e9  CPU s/GB\n";
  for (const Candidate& finalist : candidates) {
    const DiskSpeeds& speeds = finalist.speeds;
    const bool is_chosen = chosen != nullptr && finalist.setting == chosen->setting;
    out << std::left << std::setw(kSettingWidth)
        << (is_chosen ? "> " : "  ") + describe(finalist.setting) << std::right << std::setw(11)
        << gigabytes(speeds.read) << std::setw(12) << gigabytes(speeds.write) << std::setw(19)
        << gigabytes(speeds.mixed_read) + " + " + gigabytes(speeds.mixed_write) << std::setw(7)
        << mu_text(finalist) << std::setw(13) << step_text(finalist) << std::setw(10)
        << compact(finalist.cpu_seconds_per_gigabyte) << '\n';
  }
}

/// The results of a search that did not come to its end.
void write_so_far(std::ostream& out, const TuneOutcome& outcome) {
  constexpr std::size_t kShown = 10;
  const auto candidates = candidates_of(outcome.search.points, kTrainingTraffic);
  write_candidates(out, "best so far, not yet compared",
                   std::span(candidates).first(std::min(candidates.size(), kShown)), nullptr);
}

void write_health(std::ostream& out, const TuneOutcome& outcome) {
  for (const DriveHealth& drive : outcome.health) {
    if (!drive.after.log) {
      out << "health: " << drive.after.why_not << '\n';
      continue;
    }
    out << "health of " << drive.device << ": " << describe(*drive.after.log);
    if (drive.before.log && outcome.health.size() == 1) {
      const std::uint64_t written =
          drive.after.log->bytes_written - drive.before.log->bytes_written;
      out << "; it wrote " << compact(static_cast<double>(written) / 1e9) << " GB for our "
          << compact(static_cast<double>(outcome.bytes_written()) / 1e9);
    }
    out << '\n';
  }
}

void write_grid(std::ostream& out, const GridCheck& grid) {
  out << "\nagainst a grid of " << grid.settings << " settings: its best is "
      << describe(grid.grid_best.setting) << " with " << compact(step_seconds(grid.grid_best))
      << " s; the choice takes " << compact(step_seconds(grid.search_best)) << " s, "
      << fixed(grid.quality() * 100, 1) << " % of its speed, found in "
      << fixed(grid.search_seconds, 0) << " s instead of " << fixed(grid.grid_seconds, 0) << " s\n";
}

// ---- JSON --------------------------------------------------------------------------------------

OrderedJson setting_json(const Setting& setting) {
  OrderedJson json;
  json["engine"] = name_of(setting.engine);
  json["block_bytes"] = setting.block_bytes;
  json["depth"] = setting.depth;
  json["threads"] = setting.threads;
  return json;
}

OrderedJson candidate_json(const Candidate& candidate) {
  OrderedJson json = setting_json(candidate.setting);
  json["read_bytes_per_second"] = candidate.speeds.read;
  json["write_bytes_per_second"] = candidate.speeds.write;
  json["mixed_read_bytes_per_second"] = candidate.speeds.mixed_read;
  json["mixed_write_bytes_per_second"] = candidate.speeds.mixed_write;
  json["mu"] = candidate.speeds.mu();
  json["cpu_seconds_per_gigabyte"] = candidate.cpu_seconds_per_gigabyte;
  if (candidate.failure.empty()) {
    json["step_seconds_of_1e9_parameters"] = step_seconds(candidate);
  } else {
    json["failure"] = candidate.failure;
  }
  return json;
}

OrderedJson direction_json(const DirectionResult& direction) {
  OrderedJson json;
  json["bytes"] = direction.bytes;
  json["requests"] = direction.requests;
  json["errors"] = direction.errors;
  json["bytes_per_second"] = direction.gigabytes_per_second() * 1e9;
  json["latency_p50_ns"] = direction.latency.percentile(50).count();
  json["latency_p99_ns"] = direction.latency.percentile(99).count();
  return json;
}

OrderedJson point_json(const PointResult& result) {
  OrderedJson json;
  json["workload"] = name_of(result.point.workload);
  json.update(setting_json(
      {result.point.engine, result.point.block_bytes, result.point.depth, result.point.threads}));
  json["ran_on"] = result.engine;
  json["seconds"] = result.seconds;
  json["cpu_seconds_per_gigabyte"] = result.cpu_seconds_per_gigabyte();
  json["read"] = direction_json(result.read);
  json["write"] = direction_json(result.write);
  return json;
}

OrderedJson steady_json(const TuneOutcome& outcome) {
  const SteadyState& steady = outcome.steady;
  OrderedJson json;
  json["reached"] = steady.reached;
  json["write_bytes_per_second"] = steady.bytes_per_second;
  json["spread"] = steady.spread;
  json["slope"] = steady.slope;
  json["verdict"] = steady.verdict;
  if (steady.slowdown) {
    json["slowdown"]["after_bytes"] = steady.slowdown->bytes_before;
    json["slowdown"]["after_seconds"] = steady.slowdown->seconds;
    json["slowdown"]["bytes_per_second_before"] = steady.slowdown->bytes_per_second_before;
    json["slowdown"]["bytes_per_second_after"] = steady.slowdown->bytes_per_second_after;
  }
  return json;
}

OrderedJson health_json(const tool::SmartReading& reading) {
  OrderedJson json;
  if (!reading.log) {
    json["not_read"] = reading.why_not;
    return json;
  }
  json["temperature_celsius"] = reading.log->temperature_celsius;
  json["percentage_used"] = reading.log->percentage_used;
  json["bytes_written"] = reading.log->bytes_written;
  json["media_errors"] = reading.log->media_errors;
  json["critical_warning"] = reading.log->critical_warning;
  return json;
}

}  // namespace

std::uint64_t TuneOutcome::bytes_written() const {
  const std::uint64_t by_train_step = train_step ? train_step->write.bytes : 0;
  return bytes + search.bytes_written + writes.write.bytes + by_train_step;
}

std::string advice_on_directions(const DiskSpeeds& speeds) {
  constexpr double kWorthMixing = 0.1;
  if (speeds.mu() < kWorthMixing) {
    return "one direction at a time: reads and writes share the disk's time, mixing gains nothing";
  }
  return "reads and writes at once: " + fixed(speeds.mu() * 100, 0) +
         " % of the shorter of the two is hidden";
}

void write_table(std::ostream& out, const TuneOutcome& outcome) {
  for (const aio::DiskDescription& disk : outcome.disks) {
    out << disk.directory.string() << ": " << describe(disk) << ", "
        << format_bytes(disk.free_bytes) << " free\n";
  }
  out << outcome.search.points.size() << " measurements over " << format_bytes(outcome.bytes)
      << " in " << duration_text(outcome.seconds) << ", " << format_bytes(outcome.bytes_written())
      << " written:";
  for (const Round& round : outcome.search.rounds) {
    out << ' ' << round.name << ' ' << round.ranking.size();
  }
  out << "\n\n";
  if (!outcome.has_choice()) {
    write_so_far(out, outcome);
    return;
  }
  write_candidates(out, "finalists (medians)", outcome.search.finalists, &outcome.search.best);
  out << "\nchosen: " << describe(outcome.search.best.setting) << "; "
      << advice_on_directions(outcome.search.best.speeds) << '\n';
  if (!outcome.writes.windows.empty()) {
    out << "writes for " << fixed(outcome.writes.seconds, 0) << " s: " << outcome.steady.verdict
        << '\n';
  }
  if (outcome.train_step) {
    const double seconds = train_step_seconds(*outcome.train_step);
    out << "a training step's traffic: " << fixed(outcome.train_step->gigabytes_per_second(), 2)
        << " GB/s, so a step of 1e9 parameters takes "
        << (std::isfinite(seconds) ? compact(seconds) + " s" : "? (it was over before the writes)")
        << " (from the parts: " << compact(step_seconds(outcome.search.best)) << " s)\n";
  }
  write_health(out, outcome);
  if (outcome.grid) write_grid(out, *outcome.grid);
  for (const std::string& note : outcome.notes) out << "note: " << note << '\n';
  out << '\n' << config_sections(outcome.search.best.setting);
}

std::string to_json(const TuneOutcome& outcome) {
  OrderedJson json;
  json["ds_nvme_bench version"] = STRATA_VERSION;
  json["command"] = "tune";
  json["timestamp"] =
      std::chrono::duration_cast<std::chrono::seconds>(outcome.time.time_since_epoch()).count();
  json["disks"] = OrderedJson::array();
  for (const aio::DiskDescription& disk : outcome.disks) {
    json["disks"].push_back({{"directory", disk.directory.string()},
                             {"file_system", disk.file_system},
                             {"device", disk.device},
                             {"model", disk.model}});
  }
  json["file_bytes"] = outcome.bytes;
  json["seconds"] = outcome.seconds;
  json["bytes_written"] = outcome.bytes_written();
  if (!outcome.ended.empty()) json["ended"] = outcome.ended;
  if (outcome.has_choice()) json["chosen"] = candidate_json(outcome.search.best);
  json["finalists"] = OrderedJson::array();
  for (const Candidate& c : outcome.search.finalists)
    json["finalists"].push_back(candidate_json(c));
  if (!outcome.writes.windows.empty()) json["steady"] = steady_json(outcome);
  if (outcome.train_step) {
    json["train_step"] = point_json(*outcome.train_step);
    json["train_step"]["step_seconds_of_1e9_parameters"] = train_step_seconds(*outcome.train_step);
  }
  json["health"] = OrderedJson::array();
  for (const DriveHealth& drive : outcome.health) {
    json["health"].push_back({{"device", drive.device},
                              {"before", health_json(drive.before)},
                              {"after", health_json(drive.after)}});
  }
  if (outcome.grid) {
    json["grid"] = {{"settings", outcome.grid->settings},
                    {"quality", outcome.grid->quality()},
                    {"search_seconds", outcome.grid->search_seconds},
                    {"grid_seconds", outcome.grid->grid_seconds},
                    {"best", candidate_json(outcome.grid->grid_best)},
                    {"chosen", candidate_json(outcome.grid->search_best)}};
  }
  json["notes"] = outcome.notes;
  json["points"] = OrderedJson::array();
  for (const PointResult& point : outcome.search.points)
    json["points"].push_back(point_json(point));
  if (outcome.has_choice())
    json.update(OrderedJson::parse(config_sections(outcome.search.best.setting)));
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

HtmlReport to_html_report(const TuneOutcome& outcome) {
  const Candidate& best = outcome.search.best;
  HtmlReport report;
  report.title = "What the disk gives to training";
  report.summary = "The best setting is " + describe(best.setting) + "; " +
                   advice_on_directions(best.speeds) + ". Writes: " + outcome.steady.verdict + ".";
  report.figures = {{"read", gigabytes(best.speeds.read) + " GB/s"},
                    {"write", gigabytes(best.speeds.write) + " GB/s"},
                    {"read and write at once", gigabytes(best.speeds.mixed_read) + " + " +
                                                   gigabytes(best.speeds.mixed_write) + " GB/s"},
                    {"a step of 7e9 parameters", compact(7 * step_seconds(best)) + " s"}};
  for (const aio::DiskDescription& disk : outcome.disks) {
    report.facts.emplace_back("directory", disk.directory.string());
    report.facts.emplace_back("disk", describe(disk));
    report.facts.emplace_back("free", format_bytes(disk.free_bytes));
  }
  for (const DriveHealth& drive : outcome.health) {
    report.facts.emplace_back("health",
                              drive.after.log ? describe(*drive.after.log) : drive.after.why_not);
  }
  report.facts.emplace_back("files", format_bytes(outcome.bytes));
  report.facts.emplace_back("written while tuning", format_bytes(outcome.bytes_written()));
  report.facts.emplace_back("program", "ds_nvme_bench " STRATA_VERSION);
  report.notes = outcome.notes;
  report.config = config_sections(best.setting);
  report.time_line = outcome.writes;
  report.points = outcome.search.points;
  return report;
}

}  // namespace strata::nvme_bench
