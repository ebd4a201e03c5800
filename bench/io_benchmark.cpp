// Strata's I/O engine against fio, and DeepSpeed's ds_io where it is given, on the same disk in one
// run: `io_benchmark DIR --fio fio [--ds-io ds_io]`.
//
// For sequential reads and writes each contestant first looks for its best settings on a grid; then
// all take turns, round by round, and what counts is the median of the rounds' ratios: a machine
// shared with others swings by a factor of two within minutes. Strata and fio move the same blocks
// of the same file, from and to huge pages (fio counts its CPU time in whole milliseconds of each
// thread, so turns should last seconds); fio's have to be set aside before:
// `sysctl vm.nr_hugepages=384`. Prints a page of markdown.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <iomanip>
#include <iostream>
#include <optional>
#include <vector>

#include "disk_peers.h"
#include "median.h"
#include "runner.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "target_files.h"

namespace strata::bench {
namespace {

using nvme_bench::DirectionResult;
using nvme_bench::PointResult;
using nvme_bench::TargetFiles;

struct Options {
  std::filesystem::path directory;
  std::string size = "2GiB";
  double seconds = 3;
  int rounds = 9;
  std::string fio = "fio";
  std::string ds_io;
};

struct Contestant {
  std::string name;
  std::function<DiskFigure(const Point&, const Limits&)> run;
  Point best;
  std::vector<DiskFigure> rounds;
};

using Value = std::function<double(const DiskFigure&)>;
double rate_of(const DiskFigure& figure) { return figure.gigabytes_per_second; }
double cpu_of(const DiskFigure& figure) { return figure.cpu_seconds_per_gigabyte; }

double median_of(const Contestant& contestant, const Value& value) {
  std::vector<double> values;
  for (const DiskFigure& figure : contestant.rounds) values.push_back(value(figure));
  return tool::median(std::move(values));
}

/// The figures of one round follow each other within seconds.
double median_ratio(const Contestant& a, const Contestant& b, const Value& value) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < a.rounds.size(); ++i) {
    ratios.push_back(value(a.rounds[i]) / value(b.rounds[i]));
  }
  return tool::median(std::move(ratios));
}

DiskFigure run_strata(const Point& point, const Limits& limits, const TargetFiles& files) {
  Logger log;
  log.set_level(LogLevel::kWarning);
  const PointResult result = run_point(point, limits, files, log);
  const bool reads = point.workload == Workload::kRead || point.workload == Workload::kRandRead;
  const DirectionResult& direction = reads ? result.read : result.write;
  if (direction.errors > 0) throw IoError(result.first_error, 0);
  const auto microseconds = [&](double percent) {
    return static_cast<double>(direction.latency.percentile(percent).count()) / 1e3;
  };
  return {.gigabytes_per_second = direction.gigabytes_per_second(),
          .cpu_seconds_per_gigabyte = result.cpu_seconds_per_gigabyte(),
          .latency_mean_us = direction.latency.mean_ns() / 1e3,
          .latency_p50_us = microseconds(50),
          .latency_p99_us = microseconds(99)};
}

std::string describe(const Point& point) {
  return std::string(name_of(point.engine)) + ", " + format_bytes(point.block_bytes) +
         " blocks, depth " + std::to_string(point.depth) + ", " + std::to_string(point.threads) +
         " threads";
}

std::vector<Point> grid(Workload workload) {
  std::vector<Point> points;
  for (const std::uint64_t block : {512_KiB, 1_MiB, 4_MiB}) {
    for (const std::uint32_t depth : {8u, 32u}) {
      for (const std::uint32_t threads : {1u, 2u}) {
        Point point;
        point.workload = workload;
        point.engine = IoBackend::kIoUring;
        point.block_bytes = block;
        point.depth = depth;
        point.threads = threads;
        points.push_back(point);
      }
    }
  }
  return points;
}

/// The best of the grid: the four fastest of a short trial play three rounds; of those whose median
/// is within 2 % of the best one's, which no round can tell apart, the one that takes least CPU
/// time.
Point best_point(Workload workload, const Contestant& contestant) {
  const Limits trial{.runtime = std::chrono::milliseconds(700),
                     .bytes = 0,
                     .ramp = std::chrono::milliseconds(200)};
  constexpr std::size_t kFinalists = 4;
  constexpr int kRounds = 3;
  constexpr double kAsFast = 0.98;
  std::vector<std::pair<double, Point>> tried;
  for (const Point& point : grid(workload)) {
    tried.emplace_back(contestant.run(point, trial).gigabytes_per_second, point);
  }
  std::sort(tried.begin(), tried.end(),
            [](const auto& a, const auto& b) { return a.first > b.first; });
  tried.resize(kFinalists);
  std::vector<Contestant> finalists(kFinalists);
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < kFinalists; ++i) {
      finalists[i].best = tried[i].second;
      finalists[i].rounds.push_back(contestant.run(tried[i].second, trial));
    }
  }
  double fastest = 0;
  for (const Contestant& it : finalists) fastest = std::max(fastest, median_of(it, rate_of));
  std::erase_if(finalists,
                [&](const Contestant& it) { return median_of(it, rate_of) < kAsFast * fastest; });
  return std::min_element(finalists.begin(), finalists.end(),
                          [](const Contestant& a, const Contestant& b) {
                            return median_of(a, cpu_of) < median_of(b, cpu_of);
                          })
      ->best;
}

void print_throughput(const std::vector<Contestant>& contestants) {
  const Contestant& strata = contestants.front();
  std::cout << "| contestant | settings | GB/s | Strata / it | CPU s per GB | Strata / it |\n"
            << "|---|---|---|---|---|---|\n"
            << std::fixed;
  for (const Contestant& it : contestants) {
    std::cout << "| " << it.name << " | " << describe(it.best) << " | " << std::setprecision(2)
              << median_of(it, rate_of) << " | " << median_ratio(strata, it, rate_of) << " | ";
    if (median_of(it, cpu_of) > 0) {
      std::cout << std::setprecision(4) << median_of(it, cpu_of) << " | " << std::setprecision(2)
                << median_ratio(strata, it, cpu_of);
    } else {
      std::cout << " | ";
    }
    std::cout << " |\n";
  }
}

void print_latency(const std::vector<Contestant>& contestants) {
  const Contestant& strata = contestants.front();
  const std::pair<const char*, Value> columns[] = {
      {"mean", [](const DiskFigure& f) { return f.latency_mean_us; }},
      {"p50", [](const DiskFigure& f) { return f.latency_p50_us; }},
      {"p99", [](const DiskFigure& f) { return f.latency_p99_us; }}};
  std::cout << "| contestant |";
  for (const auto& [name, value] : columns) std::cout << " " << name << ", us | Strata / it |";
  std::cout << "\n|---|---|---|---|---|---|---|\n" << std::fixed;
  for (const Contestant& it : contestants) {
    std::cout << "| " << it.name << " |";
    for (const auto& [name, value] : columns) {
      std::cout << " " << std::setprecision(1) << median_of(it, value) << " | "
                << std::setprecision(2) << median_ratio(strata, it, value) << " |";
    }
    std::cout << "\n";
  }
}

class Benchmark {
 public:
  explicit Benchmark(const Options& options)
      : options_(options),
        fio_(options.fio),
        ds_io_(options.ds_io, options.directory),
        files_({options.directory}, parse_bytes(options.size), /*direct=*/true, {}) {}

  void run() {
    std::cout << "fio is " << fio_.version() << ". File of " << format_bytes(files_.bytes()) << ", "
              << options_.rounds << " rounds of " << options_.seconds << " s.\n";
    for (const Workload workload : {Workload::kRead, Workload::kWrite}) {
      std::vector<Contestant> contestants = disk_tools();
      for (Contestant& contestant : contestants) {
        contestant.best = best_point(workload, contestant);
      }
      if (contestants[0].best != contestants[1].best) {
        contestants.push_back(contestants[0]);
        contestants.back().name = "Strata with fio's settings";
        contestants.back().best = contestants[1].best;
      }
      if (!options_.ds_io.empty()) contestants.push_back(deepspeed(workload));
      play(contestants);
      std::cout << "\n## Sequential " << name_of(workload) << "\n\n";
      print_throughput(contestants);
    }
    Point single;
    single.workload = Workload::kRandRead;
    single.engine = IoBackend::kIoUring;
    single.block_bytes = 4_KiB;
    single.depth = 1;
    std::vector<Contestant> contestants = disk_tools();
    for (Contestant& contestant : contestants) contestant.best = single;
    play(contestants);
    std::cout << "\n## One 4-KiB random read at a time\n\n";
    print_latency(contestants);
  }

 private:
  std::vector<Contestant> disk_tools() {
    return {{.name = "Strata",
             .run = [this](const Point& p, const Limits& l) { return run_strata(p, l, files_); },
             .best = {},
             .rounds = {}},
            {.name = "fio",
             .run = [this](const Point& p,
                           const Limits& l) { return fio_.run(p, l, files_.files().front()); },
             .best = {},
             .rounds = {}}};
  }

  /// ds_io with its own tuner's grid of blocks, depths and threads, a loop for each.
  Contestant deepspeed(Workload workload) {
    Contestant contestant{
        .name = "ds_io",
        .run = [this](const Point& p, const Limits&) { return ds_io_.run(p, kDsIoBytes, 3); },
        .best = {},
        .rounds = {}};
    double best_rate = 0;
    for (const std::uint64_t block : {1_MiB, 8_MiB}) {
      for (const std::uint32_t depth : {32u, 128u}) {
        for (const std::uint32_t threads : {1u, 2u}) {
          Point point;
          point.workload = workload;
          point.engine = IoBackend::kLibaio;
          point.block_bytes = block;
          point.depth = depth;
          point.threads = threads;
          const double rate = ds_io_.run(point, kDsIoBytes, 1).gigabytes_per_second;
          if (rate <= best_rate) continue;
          best_rate = rate;
          contestant.best = point;
        }
      }
    }
    return contestant;
  }

  void play(std::vector<Contestant>& contestants) const {
    const auto runtime = std::chrono::duration<double>(options_.seconds);
    const Limits limits{.runtime = std::chrono::duration_cast<std::chrono::nanoseconds>(runtime),
                        .bytes = 0,
                        .ramp = std::chrono::milliseconds(200)};
    for (int round = 0; round < options_.rounds; ++round) {
      for (std::size_t i = 0; i < contestants.size(); ++i) {
        // Who begins changes from round to round.
        Contestant& turn = contestants[(i + static_cast<std::size_t>(round)) % contestants.size()];
        turn.rounds.push_back(turn.run(turn.best, limits));
      }
    }
  }

  static constexpr std::uint64_t kDsIoBytes = 1_GiB;

  Options options_;
  Fio fio_;
  DsIo ds_io_;
  TargetFiles files_;
};

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Strata's I/O engine against fio and ds_io on one disk.", "io_benchmark");
  app.add_option("directory", options.directory, "on the disk to measure")->required();
  app.add_option("--size", options.size, "of the file")->capture_default_str();
  app.add_option("--seconds", options.seconds, "of each turn")->capture_default_str();
  app.add_option("--rounds", options.rounds)->capture_default_str();
  app.add_option("--fio", options.fio, "fio's program")->capture_default_str();
  app.add_option("--ds-io", options.ds_io, "DeepSpeed's ds_io; absent: not compared");
  CLI11_PARSE(app, argc, argv);
  Benchmark(options).run();
  return 0;
}

}  // namespace
}  // namespace strata::bench

int main(int argc, char** argv) {
  try {
    return strata::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "io_benchmark: " << error.what() << "\n";
    return 1;
  }
}
