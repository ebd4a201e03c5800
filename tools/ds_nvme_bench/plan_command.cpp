#include "command.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "measured_speeds.h"
#include "model_plan.h"
#include "number_text.h"
#include "options.h"
#include "output_file.h"
#include "session.h"
#include "smart.h"
#include "strata/base/error.h"

namespace strata::nvme_bench {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kPlanFooter = R"(Examples:
  ds_nvme_bench plan --params=7B /mnt/nvme --tbw=1200
  ds_nvme_bench plan --params=70B --from=disk.json --flops=600T
  ds_nvme_bench plan --params=13B --bandwidth-read=7 --bandwidth-write=5 --mu=0.5 --drives=4

A step's time on disk is max(R/Br, W/Bw) + (1 - mu) min(R/Br, W/Bw): R bytes read at Br, W written
at Bw, mu how far the two directions overlap. A step computes 6 N T FLOP for N parameters and T
tokens, 8 N T when forward is run again in backward (Kaplan et al. 2020, section 2.1; Narayanan et
al. 2021). The rated endurance (TBW) stands on the drive's data sheet.)";

constexpr Limits kMeasurement{.runtime = std::chrono::seconds(3)};
constexpr double kUsualFlops[] = {20e12, 100e12, 400e12};  // reached, not peak

struct PlanOptions {
  TargetOptions target;
  double parameters = 0;
  std::optional<double> read_speed;
  std::optional<double> write_speed;
  std::optional<double> mu;
  std::optional<std::filesystem::path> from;
  std::vector<double> flops;
  bool recomputation = true;
  std::optional<double> rated_bytes;
  std::uint32_t drives = 0;  // 0: those that the directories are on
};

/// The inputs of a plan, and their sources.
struct Basis {
  PlanInput input;
  std::string source;
  std::vector<std::string> notes;
};

double parse_between(double least, double most, const std::string& what, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (!is_number || !(value >= least && value <= most)) {
    throw ConfigError("\"" + text + "\" is not " + what);
  }
  return value;
}

double parse_speed(const std::string& text) {
  return parse_between(1e-3, 1e6, "a speed in GB/s, from 0.001 to 1e6", text);
}

double parse_share(const std::string& text) {
  return parse_between(0, 1, "a number from 0 to 1", text);
}

DiskSpeeds measure_speeds(Session& session) {
  const auto measure = [&](Workload workload) {
    PointResult result = session.measure({.workload = workload}, kMeasurement);
    session.throw_if_over();
    if (!result.first_error.empty()) {
      throw IoError("requests failed; the first one: " + result.first_error, 0);
    }
    return result;
  };
  DiskSpeeds speeds;
  speeds.read = read_speed(measure(Workload::kRead));
  speeds.write = write_speed(measure(Workload::kWrite));
  const PointResult mixed = measure(Workload::kReadWrite);
  speeds.mixed_read = read_speed(mixed);
  speeds.mixed_write = write_speed(mixed);
  return speeds;
}

/// The least rated endurance of the drives, by their health logs.
void take_rating_from_drives(const std::vector<aio::DiskDescription>& disks, Basis& basis) {
  for (const aio::DiskDescription& disk : disks) {
    const tool::SmartReading reading = tool::read_smart_log(disk.device);
    if (!reading.log) {
      basis.notes.push_back(reading.why_not);
      continue;
    }
    basis.notes.push_back(disk.device + ": " + describe(*reading.log));
    const std::optional<double> rated = rated_bytes(*reading.log);
    if (!rated) continue;
    basis.notes.push_back(disk.device + ": its counters come to a rating of about " +
                          compact(*rated / 1e12) + " TB written");
    if (!basis.input.rated_bytes || *rated < *basis.input.rated_bytes) {
      basis.input.rated_bytes = rated;
    }
  }
}

Basis basis_of(const PlanOptions& options, const Console& console) {
  const bool given = options.read_speed || options.write_speed;
  const int sources =
      (given ? 1 : 0) + (options.from ? 1 : 0) + (options.target.directories.empty() ? 0 : 1);
  if (sources != 1) {
    throw ConfigError(
        "name the speeds of the disk in one way: a directory on it to measure, "
        "--from a result, or --bandwidth-read and --bandwidth-write");
  }
  if (options.mu && !given) {
    throw ConfigError(
        "--mu belongs to --bandwidth-read and --bandwidth-write; here it is measured");
  }
  Basis basis;
  basis.input.parameters = options.parameters;
  basis.input.recomputation = options.recomputation;
  basis.input.rated_bytes = options.rated_bytes;
  basis.input.flops = options.flops;
  if (basis.input.flops.empty())
    basis.input.flops.assign(std::begin(kUsualFlops), std::end(kUsualFlops));
  basis.input.disks = std::max<std::uint32_t>(1, options.drives);
  if (given) {
    if (!options.read_speed || !options.write_speed) {
      throw ConfigError("--bandwidth-read and --bandwidth-write belong together");
    }
    basis.input.speeds = DiskSpeeds::with_overlap(
        *options.read_speed * 1e9, *options.write_speed * 1e9, options.mu.value_or(0));
    basis.source = "as given";
  } else if (options.from) {
    const MeasuredSpeeds measured = speeds_from_file(*options.from);
    for (const std::string& warning : measured.warnings) console.log.warning(warning);
    basis.input.speeds = measured.speeds;
    basis.source = "from " + options.from->string();
  } else {
    Session session(options.target, {{.workload = Workload::kReadWrite}}, console);
    basis.input.speeds = measure_speeds(session);
    basis.source = "measured with blocks of 1 MiB, 32 at a time";
    if (options.drives == 0) {
      basis.input.disks = drives_among(session.disks());
    }
    if (!options.rated_bytes) take_rating_from_drives(session.disks(), basis);
  }
  return basis;
}

std::string bytes_text(double bytes) {
  return bytes < 1e12 ? compact(bytes / 1e9) + " GB" : compact(bytes / 1e12) + " TB";
}

std::string time_text(double seconds) {
  return seconds < 100 ? compact(seconds) + " s" : duration_text(seconds);
}

std::string days_text(const std::optional<double>& days) {
  if (!days) return "?";
  return *days < 1000 ? compact(*days) : fixed(*days, 0);
}

std::string tokens_text(double tokens) {
  return tokens < 1000 ? fixed(tokens, 0) : compact(tokens / 1e3) + "k";
}

std::string flops_text(double flops) { return compact(flops / 1e12) + " TFLOP/s"; }

void write_plan(std::ostream& out, const Basis& basis) {
  const PlanInput& input = basis.input;
  const DiskSpeeds& speeds = input.speeds;
  out << compact(input.parameters / 1e9) << " billion parameters; disk (" << basis.source
      << "): read " << fixed(speeds.read / 1e9, 2) << " GB/s, write "
      << fixed(speeds.write / 1e9, 2) << " GB/s, mu " << fixed(speeds.mu(), 2) << "\n\n";
  constexpr int kName = 18;
  out << std::left << std::setw(kName) << "state" << std::right << std::setw(10) << "on disk"
      << std::setw(10) << "read" << std::setw(10) << "written" << std::setw(12) << "disk time";
  for (const double flops : input.flops) out << std::setw(15) << flops_text(flops);
  out << std::setw(13) << "written/day" << std::setw(8) << "days" << '\n';
  for (const FormatPlan& plan : plan_for(input)) {
    out << std::left << std::setw(kName) << plan.format.name << std::right << std::setw(10)
        << bytes_text(plan.bytes_at_rest) << std::setw(10) << bytes_text(plan.bytes_read)
        << std::setw(10) << bytes_text(plan.bytes_written) << std::setw(12)
        << time_text(plan.disk_seconds);
    for (const HidingTokens& hiding : plan.hiding)
      out << std::setw(15) << tokens_text(hiding.tokens);
    out << std::setw(13) << bytes_text(plan.bytes_written_per_day) << std::setw(8)
        << days_text(plan.days_of_endurance) << '\n';
  }
  out << '\n';
  for (const StateFormat& format : state_formats()) {
    out << std::left << std::setw(kName) << format.name << format.states << '\n';
  }
  out << "read, written and disk time are of a step; under FLOP/s stand the tokens a step must "
         "have "
         "so that\ncomputing takes as long as the disk; days are those until the drives are "
         "written "
         "to their rating.\n"
         "Everything is on disk, and steps follow each other without pause. A weight is read once\n"
         "more where the device cannot keep it from forward to backward.\n";
  if (!input.rated_bytes) {
    out << "note: days to the rating need --tbw, which the drive's data sheet states: --tbw=600 "
           "for "
           "600 TB\n";
  }
  for (const std::string& note : basis.notes) out << "note: " << note << '\n';
}

OrderedJson plan_json(const Basis& basis) {
  const PlanInput& input = basis.input;
  OrderedJson json;
  json["ds_nvme_bench version"] = STRATA_VERSION;
  json["command"] = "plan";
  json["parameters"] = input.parameters;
  json["speeds"] = {{"source", basis.source},
                    {"read_bytes_per_second", input.speeds.read},
                    {"write_bytes_per_second", input.speeds.write},
                    {"mu", input.speeds.mu()}};
  json["drives"] = input.disks;
  json["recomputation"] = input.recomputation;
  json["rated_bytes_of_a_drive"] =
      input.rated_bytes ? OrderedJson(*input.rated_bytes) : OrderedJson();
  json["formats"] = OrderedJson::array();
  for (const FormatPlan& plan : plan_for(input)) {
    OrderedJson format;
    format["name"] = plan.format.name;
    format["states"] = plan.format.states;
    format["bytes_at_rest"] = plan.bytes_at_rest;
    format["bytes_read_per_step"] = plan.bytes_read;
    format["bytes_written_per_step"] = plan.bytes_written;
    format["disk_seconds_per_step"] = plan.disk_seconds;
    format["tokens_that_hide_it"] = OrderedJson::array();
    for (const HidingTokens& hiding : plan.hiding) {
      format["tokens_that_hide_it"].push_back({{"flops", hiding.flops}, {"tokens", hiding.tokens}});
    }
    format["bytes_written_per_day"] = plan.bytes_written_per_day;
    format["days_to_rating"] =
        plan.days_of_endurance ? OrderedJson(*plan.days_of_endurance) : OrderedJson();
    format["steps_to_rating"] =
        plan.steps_of_endurance ? OrderedJson(*plan.steps_of_endurance) : OrderedJson();
    json["formats"].push_back(std::move(format));
  }
  json["notes"] = basis.notes;
  return json;
}

tool::ExitCode plan(const PlanOptions& options, const Console& console) {
  if (options.parameters == 0) throw ConfigError("plan needs --params, for example --params=7B");
  if (options.target.format != Format::kTable && options.target.format != Format::kJson) {
    throw ConfigError("plan writes --format table or json");
  }
  std::optional<tool::OutputFile> output;
  if (options.target.output) output.emplace(*options.target.output);
  const Basis basis = basis_of(options, console);
  std::ostream& out = output ? output->stream() : console.out;
  if (options.target.format == Format::kJson) {
    out << plan_json(basis).dump(2) << '\n';
  } else {
    write_plan(out, basis);
  }
  if (output) output->publish();
  return tool::ExitCode::kDone;
}

void add_options(CLI::App& command, PlanOptions& o) {
  constexpr const char* kDisk = "Disk (one of: DIR, --from, --bandwidth-*)";
  add_target_options(command, o.target);
  add_text(command, "--params", "Parameters of the model: 7e9, 7B, 124M", "N",
           [&o](const std::string& text) { o.parameters = parse_parameters(text); });
  command
      .add_option("--from", o.from,
                  "Result of tune or of the overview (--format=json), or fio's of reads and writes")
      ->type_name("FILE")
      ->group(kDisk);
  add_text(command, "--bandwidth-read", "Of all drives together", "GB/s",
           [&o](const std::string& text) { o.read_speed = parse_speed(text); })
      ->group(kDisk);
  add_text(command, "--bandwidth-write", "Of all drives together", "GB/s",
           [&o](const std::string& text) { o.write_speed = parse_speed(text); })
      ->group(kDisk);
  add_text(command, "--mu", "How far the two overlap, from 0 to 1 [0]", "M",
           [&o](const std::string& text) { o.mu = parse_share(text); })
      ->group(kDisk);
  add_text(command, "--drives", "That share the writes [those that the directories are on, else 1]",
           "N", [&o](const std::string& text) { o.drives = parse_count(text); })
      ->group(kDisk);
  add_text(command, "--tbw", "Rated endurance of a drive: 600, 1.2PB [from its counters]", "TB",
           [&o](const std::string& text) { o.rated_bytes = parse_tbw(text); })
      ->group(kDisk);
  add_text(command, "--flops",
           "Speed that computing reaches, 312T or 312e12; may be repeated [20T 100T 400T]", "F",
           [&o](const std::string& text) { o.flops.push_back(parse_flops(text)); })
      ->take_all()
      ->expected(1);
  command.add_flag_callback(
      "--no-recompute", [&o] { o.recomputation = false; },
      "Forward is not run again in backward: 6 FLOP for a parameter and token, not 8");
}

}  // namespace

Command add_plan_command(CLI::App& app) {
  const auto options = std::make_shared<PlanOptions>();
  CLI::App* command =
      app.add_subcommand("plan", "Tells what disks mean for a model: time, tokens, endurance.");
  command->footer(kPlanFooter);
  add_options(*command, *options);
  return {.parser = command,
          .execute = [options](const Console& console) { return plan(*options, console); }};
}

}  // namespace strata::nvme_bench
