#include "command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "number_text.h"
#include "options.h"
#include "output_file.h"
#include "report.h"
#include "report_html.h"
#include "session.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "tune_outcome.h"
#include "tuned_config.h"

namespace strata::nvme_bench {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr const char* kTuneFooter = R"(Examples:
  ds_nvme_bench tune /mnt/nvme --write-config=ds_config.json --report=disk.html
  ds_nvme_bench tune /mnt/a /mnt/b --size=64GiB --runtime=10m

A search, not a grid: a coarse lattice for a short time each, the better ones for longer, their
neighbours, and a contest of the finalists; then the choice is written with until --runtime is up.
Settings are compared by the time in which they read 14 and write 12 bytes, a parameter's share of a
training step with all state on disk. A drive that slows down when its cache is full shows it only
with a --size and a --runtime that fill the cache.)";

// Shares of --runtime.
constexpr double kForSearch = 0.8;
constexpr double kForWrites = 0.7;  // share of the rest
constexpr int kShortestPart = 40;   // --runtime over this, if the search took too long

constexpr Limits kGridLimits{.runtime = std::chrono::milliseconds(400),
                             .ramp = std::chrono::milliseconds(100)};

struct TuneOptions {
  TargetOptions target;
  nanoseconds runtime = seconds(90);
  IoBackend engine = IoBackend::kAuto;
  std::optional<std::filesystem::path> config;
  std::optional<std::filesystem::path> report;
  bool grid = false;
};

/// One tuning from beginning to end.
class Tuner {
 public:
  Tuner(const TuneOptions& options, const Console& console)
      : options_(options),
        console_(console),
        session_(options.target, smallest_points(options), console),
        start_(Clock::now()) {
    outcome_.time = std::chrono::system_clock::now();
    outcome_.disks = session_.disks();
    outcome_.bytes = session_.bytes();
  }

  void tune() {
    for (const aio::DiskDescription& disk : outcome_.disks) {
      outcome_.health.push_back({disk.device, tool::read_smart_log(disk.device), {}});
    }
    const SearchSpace space = space_here();
    outcome_.search = search_in(space);
    search_seconds_ = seconds_since_start();
    write_on();
    take_train_step();
    outcome_.seconds = seconds_since_start();
    for (DriveHealth& drive : outcome_.health) drive.after = tool::read_smart_log(drive.device);
    if (options_.grid) compare(space);
    add_notes();
  }

  /// The outcome after an exception from `tune`: everything that was measured until then.
  void end_with(const std::string& reason) {
    outcome_.ended = reason;
    outcome_.seconds = seconds_since_start();
    if (outcome_.has_choice()) return;
    outcome_.search.points = std::move(measured_);
    for (const PointResult& point : outcome_.search.points) {
      outcome_.search.bytes_written += point.write.bytes;
    }
  }

  [[nodiscard]] const TuneOutcome& outcome() const { return outcome_; }

 private:
  /// Tries an engine that was named before the files are written.
  static std::vector<Point> smallest_points(const TuneOptions& options) {
    if (options.engine == IoBackend::kAuto) return {};
    return {{.engine = options.engine, .block_bytes = 128_KiB, .depth = 1}};
  }

  /// Measures; a signal, or a disk that does not answer, ends the tuning.
  PointResult measure(const Point& point, const Limits& limits) {
    PointResult result = session_.measure(point, limits);
    session_.throw_if_over();
    if (!outcome_.has_choice()) measured_.push_back(result);
    return result;
  }
  [[nodiscard]] Measure measure_function() {
    return [this](const Point& point, const Limits& limits) { return measure(point, limits); };
  }
  [[nodiscard]] static ElapsedTime elapsed_function() {
    return [] { return nanoseconds(Clock::now().time_since_epoch()); };
  }

  [[nodiscard]] double seconds_since_start() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }

  [[nodiscard]] SearchSpace space_here() const {
    std::uint64_t smallest = UINT64_MAX;
    for (const aio::IoFile& file : session_.files().files()) {
      smallest = std::min(smallest, file.size());
    }
    std::vector<IoBackend> engines{IoBackend::kIoUring, IoBackend::kLibaio, IoBackend::kThreads};
    if (options_.engine != IoBackend::kAuto) engines = {options_.engine};
    return SearchSpace::usual(std::move(engines), std::thread::hardware_concurrency(), smallest);
  }

  SearchResult search_in(const SearchSpace& space) {
    SearchOptions options;
    options.budget = std::chrono::duration_cast<nanoseconds>(options_.runtime * kForSearch);
    const auto on_round = [this](const std::string& name, std::size_t settings, nanoseconds time) {
      console_.log.info(name + ": " + std::to_string(settings) + " settings, about " +
                        duration_text(std::chrono::duration<double>(time).count()));
    };
    return search(space, options, measure_function(), elapsed_function(), on_round);
  }

  [[nodiscard]] Limits rest(double share) const {
    const auto left =
        options_.runtime - std::chrono::duration_cast<nanoseconds>(Clock::now() - start_);
    const auto time = std::chrono::duration_cast<nanoseconds>(left * share);
    return {.runtime = std::max<nanoseconds>(time, options_.runtime / kShortestPart)};
  }

  /// Writes for longer than the search did, to see whether the speed lasts.
  void write_on() {
    const Limits limits = rest(kForWrites);
    console_.log.info("writing for " +
                      duration_text(std::chrono::duration<double>(limits.runtime).count()) +
                      " to see whether the speed lasts");
    outcome_.writes = measure(outcome_.search.best.setting.point(Workload::kWrite), limits);
    outcome_.steady = judge_steadiness(outcome_.writes.windows);
  }

  void take_train_step() {
    try {
      outcome_.train_step =
          measure(outcome_.search.best.setting.point(Workload::kTrainStep), rest(1));
    } catch (const ConfigError& error) {
      outcome_.notes.push_back(std::string("no training step was measured: ") + error.what());
    }
  }

  void compare(const SearchSpace& space) {
    SearchSpace working = space;
    std::erase_if(working.engines, [&](IoBackend engine) {
      return std::none_of(outcome_.search.points.begin(), outcome_.search.points.end(),
                          [&](const PointResult& result) { return result.point.engine == engine; });
    });
    const std::vector<Setting> grid = coarse_grid(working);
    console_.log.info("a grid of " + std::to_string(grid.size()) + " settings, for comparison");
    outcome_.grid = check_against_grid(grid, outcome_.search.best.setting, kGridLimits,
                                       search_seconds_, measure_function(), elapsed_function());
  }

  void add_notes() {
    auto& notes = outcome_.notes;
    notes.insert(notes.begin(), outcome_.search.notes.begin(), outcome_.search.notes.end());
    const Setting& chosen = outcome_.search.best.setting;
    for (const std::string& note :
         notes_on(chosen.point(Workload::kWrite), outcome_.bytes, outcome_.disks)) {
      notes.push_back(note);
    }
    for (const aio::IoFile& file : session_.files().files()) {
      if (file.direct()) continue;
      notes.push_back(file.path().parent_path().string() +
                      " refuses O_DIRECT: the page cache was measured with it");
    }
    if (!outcome_.steady.reached) {
      notes.push_back("writes did not become steady; a longer --runtime tells more");
    }
    if (chosen.threads > 1 && chosen.engine != IoBackend::kThreads) {
      notes.push_back(
          "Strata drives one queue for each disk: of several threads only DeepSpeed "
          "makes use");
    }
  }

  const TuneOptions& options_;
  const Console& console_;
  Session session_;
  Clock::time_point start_;
  std::vector<PointResult> measured_;  // results until the search has come to its end
  double search_seconds_ = 0;
  TuneOutcome outcome_;
};

void check_format(Format format) {
  if (format == Format::kTable || format == Format::kJson) return;
  throw ConfigError("tune writes --format table or json");
}

IoBackend parse_tunable_engine(std::string_view text) {
  const IoBackend engine = parse_engine(text);
  if (engine != IoBackend::kNull) return engine;
  throw ConfigError("null moves nothing; there is nothing to tune");
}

/// Tunes to the end, or until a signal comes or the disk cannot be used any more. Returns why it
/// ended then.
std::exception_ptr tune_as_far_as_possible(Tuner& tuner) {
  try {
    tuner.tune();
    return nullptr;
  } catch (const tool::Interrupted& error) {
    tuner.end_with(error.what());
    return std::current_exception();
  } catch (const IoError& error) {
    tuner.end_with(error.what());
    return std::current_exception();
  }
}

tool::ExitCode tune(const TuneOptions& options, const Console& console) {
  check_format(options.target.format);
  // Finds a config that cannot be written before anything is measured.
  if (options.config) check_config(*options.config);
  std::optional<tool::OutputFile> output;
  std::optional<tool::OutputFile> page;
  if (options.target.output) output.emplace(*options.target.output);
  if (options.report) page.emplace(*options.report);

  Tuner tuner(options, console);
  const std::exception_ptr ended = tune_as_far_as_possible(tuner);
  const TuneOutcome& outcome = tuner.outcome();
  if (!outcome.search.points.empty()) {
    std::ostream& out = output ? output->stream() : console.out;
    if (options.target.format == Format::kJson) {
      out << to_json(outcome);
    } else {
      write_table(out, outcome);
    }
    if (output) output->publish();
  }
  // Only a tuning that came to its end has a page and a config.
  if (ended) std::rethrow_exception(ended);
  if (page) {
    page->stream() << render_html(to_html_report(outcome));
    page->publish();
    console.log.info("the report is " + options.report->string());
  }
  if (options.config) {
    write_setting(*options.config, outcome.search.best.setting);
    console.log.info("the setting is in " + options.config->string());
  }
  return tool::ExitCode::kDone;
}

}  // namespace

Command add_tune_command(CLI::App& app) {
  const auto options = std::make_shared<TuneOptions>();
  CLI::App* command = app.add_subcommand(
      "tune", "Finds the engine, block size, depth and threads that a training step wants.");
  command->footer(kTuneFooter);
  add_target_options(*command, options->target);
  add_report_option(*command, options->report);
  add_text(*command, "--runtime", "Of all measurements together: 90, 2m, 10m [90]", "TIME",
           [options](const std::string& text) { options->runtime = parse_runtime(text); });
  add_text(*command, "--engine", "Only this one: io_uring, libaio or threads [those that work]",
           "NAME",
           [options](const std::string& text) { options->engine = parse_tunable_engine(text); });
  command
      ->add_option(
          "--write-config", options->config,
          "Put the setting into this DeepSpeed or Strata config, or make one; what else it "
          "says stays as it is written")
      ->type_name("FILE");
  command->add_flag("--exhaustive", options->grid,
                    "Then measure a coarse grid of settings too, and compare");
  return {.parser = command,
          .execute = [options](const Console& console) { return tune(*options, console); }};
}

}  // namespace strata::nvme_bench
