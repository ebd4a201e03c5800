#include "search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <tuple>

#include "median.h"
#include "strata/base/error.h"

namespace strata::nvme_bench {
namespace {

using std::chrono::nanoseconds;

constexpr std::size_t kFinalists = 4;
constexpr int kTurnsMin = 3;  // turns of each finalist
constexpr int kTurnsMax = 9;
constexpr int kWorkloads = 3;  // read, write, both

// Shares of the budget. Time that a stage leaves over falls to the next.
constexpr double kUntilLattice = 0.30;
constexpr double kUntilHalved = 0.45;
constexpr double kUntilClimbed = 0.75;
constexpr double kUntilFinal = 0.90;  // climbing ends there at the latest

constexpr nanoseconds kShortest = std::chrono::milliseconds(60);  // run time of a measurement
constexpr nanoseconds kPatience = std::chrono::seconds(2);        // for one that moves nothing
constexpr double kInfinite = std::numeric_limits<double>::infinity();

bool better(const Candidate& a, const Candidate& b) { return a.seconds < b.seconds; }

bool cheaper(const Candidate& a, const Candidate& b) {
  const auto cost = [](const Candidate& c) {
    return std::tuple(c.setting.bytes_in_flight(), c.setting.threads, c.cpu_seconds_per_gigabyte);
  };
  return cost(a) < cost(b);
}

/// The state of one search.
class Searcher {
 public:
  Searcher(const SearchSpace& space, const SearchOptions& options, const Measure& measure,
           const ElapsedTime& elapsed, const OnRound& on_round)
      : space_(space),
        options_(options),
        measure_(measure),
        elapsed_(elapsed),
        on_round_(on_round),
        start_(elapsed()) {}

  SearchResult run() {
    std::vector<Setting> field = measure_lattice();
    field = halve(std::move(field));
    field = climb(std::move(field));
    decide(field);
    return std::move(result_);
  }

 private:
  /// The time until `fraction` of the budget is used.
  [[nodiscard]] nanoseconds left_until(double fraction) const {
    const auto until = std::chrono::duration_cast<nanoseconds>(options_.budget * fraction);
    return until - (elapsed_() - start_);
  }

  /// A run time with which `measurements` of them fit into `time`, what each takes to set up
  /// included.
  [[nodiscard]] Limits share(nanoseconds time, std::size_t measurements) const {
    using std::chrono::milliseconds;
    const auto count = static_cast<nanoseconds::rep>(std::max<std::size_t>(measurements, 1));
    const nanoseconds each =
        std::clamp<nanoseconds>(time / count - set_up_, kShortest, std::chrono::seconds(3));
    Limits limits;
    limits.ramp = std::min<nanoseconds>(each / 5, milliseconds(200));
    limits.runtime = each - limits.ramp;
    return limits;
  }

  /// Measures a setting, and learns what a measurement takes beside its run time.
  Candidate measure_one(const Setting& setting, const Limits& limits, bool with_mix) {
    const auto learn = [this](const Point& point, const Limits& asked) {
      const nanoseconds before = elapsed_();
      PointResult result = measure_(point, asked);
      beside_ += elapsed_() - before - (asked.ramp + asked.runtime);
      set_up_ = std::max<nanoseconds>(beside_ / ++runs_, nanoseconds(0));
      return result;
    };
    return measure_setting(setting, limits, with_mix, options_.traffic, learn, result_.points);
  }

  /// Whether the time until `fraction` of the budget is too short for so many measurements.
  [[nodiscard]] bool too_late(double fraction, std::size_t measurements) const {
    return left_until(fraction) < shortest_time(measurements);
  }
  [[nodiscard]] nanoseconds shortest_time(std::size_t measurements) const {
    return (kShortest + set_up_) * static_cast<nanoseconds::rep>(measurements);
  }

  /// Measures as many of the settings as there is time for until `fraction` of the budget is used,
  /// which on a busy machine may be few, but at least `kFinalists` that work.
  std::vector<Candidate> measure_round(const std::string& name, std::span<const Setting> settings,
                                       const Limits& limits, bool with_mix, double fraction) {
    announce(name, settings.size(), limits, with_mix ? kWorkloads : kWorkloads - 1);
    std::vector<Candidate> ranking;
    std::size_t working = 0;
    for (const Setting& setting : settings) {
      if (working >= kFinalists && left_until(fraction) <= nanoseconds(0)) {
        note_lack_of_time();
        break;
      }
      ranking.push_back(measure_one(setting, limits, with_mix));
      working += ranking.back().failure.empty() ? 1 : 0;
      measured_.insert(setting);
    }
    std::stable_sort(ranking.begin(), ranking.end(), better);
    result_.rounds.push_back({name, limits.runtime, ranking});
    return ranking;
  }

  void note_lack_of_time() {
    const std::string note =
        "the time was up before every setting was measured that should have been; a longer "
        "--runtime may find more";
    if (std::ranges::find(result_.notes, note) == result_.notes.end()) {
      result_.notes.push_back(note);
    }
  }

  void announce(const std::string& name, std::size_t settings, const Limits& limits, int runs) {
    if (on_round_) {
      const auto count = static_cast<nanoseconds::rep>(settings) * runs;
      on_round_(name, settings, (limits.ramp + limits.runtime + set_up_) * count);
    }
  }

  std::vector<Setting> measure_lattice() {
    const std::vector<Setting> lattice = space_.lattice();
    if (lattice.empty()) {
      throw ConfigError(
          "nothing to tune: the files are too small for the smallest block; use a larger --size");
    }
    // Is compared with nothing: it warms up the disk, and tells how long a measurement takes.
    for (auto setting = lattice.begin(); setting != lattice.end() && runs_ == 0; ++setting) {
      (void)measure_one(*setting, share(nanoseconds(0), 1), true);
    }
    const Limits limits = share(left_until(kUntilLattice), lattice.size() * (kWorkloads - 1));
    const auto ranking = measure_round("lattice", lattice, limits, false, kUntilHalved);
    note_failures(ranking);
    return best_of(ranking, std::max<std::size_t>(ranking.size() / 3, kFinalists));
  }

  /// An engine of which nothing worked is not here; the reason is the same for all its settings.
  void note_failures(std::span<const Candidate> ranking) {
    std::map<IoBackend, const Candidate*> first_failure;
    std::set<IoBackend> works;
    for (const Candidate& candidate : ranking) {
      if (candidate.failure.empty()) works.insert(candidate.setting.engine);
      if (!candidate.failure.empty()) first_failure.emplace(candidate.setting.engine, &candidate);
    }
    if (works.empty()) {
      throw IoError(
          "nothing to tune: no setting works; the first that was tried: " + ranking.front().failure,
          0);
    }
    for (const auto& [engine, candidate] : first_failure) {
      const std::string what =
          works.contains(engine) ? describe(candidate->setting) : std::string(name_of(engine));
      result_.notes.push_back(what + " is left out: " + candidate->failure);
    }
    std::erase_if(space_.engines, [&](IoBackend engine) { return !works.contains(engine); });
  }

  std::vector<Setting> halve(std::vector<Setting> field) {
    if (field.size() <= kFinalists) return field;
    if (too_late(kUntilHalved, field.size() * kWorkloads)) {
      field.resize(kFinalists);
      return field;
    }
    const Limits limits = share(left_until(kUntilHalved), field.size() * kWorkloads);
    return finalists_of(measure_round("halving", field, limits, true, kUntilClimbed));
  }

  std::vector<Setting> climb(std::vector<Setting> field) {
    while (true) {
      std::vector<Setting> round = field;
      const std::size_t known = round.size();
      add_unmeasured_neighbours(round, field.front());
      if (round.size() == known && field.size() > 1) add_unmeasured_neighbours(round, field[1]);
      if (round.size() == known) return field;  // everything around the best two is known

      if (too_late(kUntilClimbed, round.size() * kWorkloads)) {
        note_lack_of_time();
        return field;
      }
      // About three rounds are usual, so each takes a third of what is left, or what it must.
      const nanoseconds time =
          std::max(left_until(kUntilClimbed) / 3, shortest_time(round.size() * kWorkloads));
      const Limits limits = share(time, round.size() * kWorkloads);
      field = finalists_of(measure_round("climb", round, limits, true, kUntilFinal));
    }
  }

  void add_unmeasured_neighbours(std::vector<Setting>& round, const Setting& setting) const {
    for (const Setting& neighbour : space_.neighbours(setting)) {
      if (!measured_.contains(neighbour)) round.push_back(neighbour);
    }
  }

  void decide(std::span<const Setting> field) {
    const nanoseconds left = left_until(1.0);
    const auto affordable = std::max<nanoseconds::rep>(left / shortest_time(kWorkloads), 1);
    if (affordable < std::ssize(field)) {
      note_lack_of_time();
      field = field.first(static_cast<std::size_t>(affordable));
    }
    const std::size_t runs = field.size() * kWorkloads;
    const Limits limits = share(left / 5, runs);
    const nanoseconds turn =
        (limits.ramp + limits.runtime + set_up_) * static_cast<nanoseconds::rep>(runs);
    const int least = left < turn ? 1 : kTurnsMin;  // the time is up
    const int turns = std::clamp(static_cast<int>(left / turn), least, kTurnsMax);
    announce("final", field.size() * static_cast<std::size_t>(turns), limits, kWorkloads);

    std::vector<std::vector<Candidate>> measured(field.size());
    for (int i = 0; i < turns; ++i) {
      if (i > 0 && left_until(1.0) < turn / 2) break;
      for (std::size_t j = 0; j < field.size(); ++j) {
        // Every other turn backwards, so that none always follows the same neighbour.
        const std::size_t at = i % 2 == 0 ? j : field.size() - 1 - j;
        measured[at].push_back(measure_one(field[at], limits, true));
      }
    }
    for (const auto& turns_of_one : measured) {
      result_.finalists.push_back(median_of(turns_of_one, options_.traffic));
    }
    std::stable_sort(result_.finalists.begin(), result_.finalists.end(), better);
    result_.rounds.push_back({"final", limits.runtime, result_.finalists});
    result_.best = winner();
    if (!std::isfinite(result_.best.seconds)) {
      throw IoError("nothing to tune: what worked at first failed at last: " + result_.best.failure,
                    0);
    }
    for (const PointResult& point : result_.points) result_.bytes_written += point.write.bytes;
  }

  /// The cheapest of the finalists that tie with the fastest.
  [[nodiscard]] Candidate winner() const {
    Candidate best = result_.finalists.front();
    const double worst_tie = best.seconds * (1 + options_.tie);
    for (const Candidate& other : result_.finalists) {
      if (other.seconds <= worst_tie && cheaper(other, best)) best = other;
    }
    return best;
  }

  static std::vector<Setting> best_of(std::span<const Candidate> ranking, std::size_t count) {
    std::vector<Setting> settings;
    for (const Candidate& candidate : ranking) {
      if (settings.size() < count && candidate.failure.empty())
        settings.push_back(candidate.setting);
    }
    return settings;
  }

  /// The best, and in the last place the cheapest of those that may yet prove to tie with them.
  [[nodiscard]] std::vector<Setting> finalists_of(std::span<const Candidate> ranking) const {
    if (!std::isfinite(ranking.front().seconds)) {
      throw IoError("nothing to tune: what worked at first fails now: " + ranking.front().failure,
                    0);
    }
    std::vector<Setting> settings = best_of(ranking, kFinalists);
    const double worst = ranking.front().seconds * (1 + 2 * options_.tie);
    const Candidate* cheapest = nullptr;
    for (const Candidate& candidate : ranking.subspan(std::min(ranking.size(), kFinalists - 1))) {
      if (candidate.seconds > worst) break;
      if (cheapest == nullptr || cheaper(candidate, *cheapest)) cheapest = &candidate;
    }
    if (cheapest != nullptr) settings.back() = cheapest->setting;
    return settings;
  }

  SearchSpace space_;
  const SearchOptions& options_;
  const Measure& measure_;
  const ElapsedTime& elapsed_;
  const OnRound& on_round_;
  nanoseconds start_;
  nanoseconds beside_{0};  // time of all runs beyond the time asked for
  nanoseconds::rep runs_ = 0;
  nanoseconds set_up_{0};  // set-up of one run: threads, queues and buffers
  std::set<Setting> measured_;
  SearchResult result_;
};

}  // namespace

namespace {

/// Whether bytes went in every direction that the workload has.
bool moved(const PointResult& result) {
  return (!has_reads(result.point.workload) || result.read.bytes > 0) &&
         (!has_writes(result.point.workload) || result.write.bytes > 0);
}

}  // namespace

Candidate measure_setting(const Setting& setting, const Limits& limits, bool with_mix,
                          const Traffic& traffic, const Measure& measure,
                          std::vector<PointResult>& points) {
  Candidate candidate;
  candidate.setting = setting;
  double cpu_seconds = 0;
  double gigabytes = 0;
  const auto run = [&](Workload workload) -> const PointResult& {
    Limits asked = limits;
    while (true) {
      points.push_back(measure(setting.point(workload), asked));
      const PointResult& result = points.back();
      cpu_seconds += result.user_cpu_seconds + result.system_cpu_seconds;
      gigabytes += static_cast<double>(result.read.bytes + result.write.bytes) / 1e9;
      const bool failed = result.read.errors + result.write.errors > 0;
      if (failed) candidate.failure = result.first_error;
      if (failed || moved(result) || asked.runtime >= kPatience) return result;
      asked.runtime *= 4;
    }
  };
  const auto fail = [&](const Error& error) { candidate.failure = error.what(); };
  try {
    candidate.speeds.read = read_speed(run(Workload::kRead));
    candidate.speeds.write = write_speed(run(Workload::kWrite));
    if (with_mix) {
      const PointResult& mixed = run(Workload::kReadWrite);
      candidate.speeds.mixed_read = read_speed(mixed);
      candidate.speeds.mixed_write = write_speed(mixed);
    }
  } catch (const ConfigError& error) {
    fail(error);
  } catch (const DeadlineExceeded&) {
    throw;
  } catch (const IoError& error) {
    fail(error);
  }
  candidate.cpu_seconds_per_gigabyte = gigabytes > 0 ? cpu_seconds / gigabytes : 0;
  candidate.seconds = candidate.failure.empty() ? candidate.speeds.seconds(traffic) : kInfinite;
  if (candidate.failure.empty() && !std::isfinite(candidate.seconds)) {
    candidate.failure = "nothing was moved in the time of the measurement";
  }
  return candidate;
}

std::vector<Candidate> candidates_of(std::span<const PointResult> points, const Traffic& traffic) {
  std::map<Setting, Candidate> candidates;
  for (const PointResult& result : points) {
    const Point& point = result.point;
    const Setting setting{point.engine, point.block_bytes, point.depth, point.threads};
    Candidate& candidate = candidates[setting];
    candidate.setting = setting;
    candidate.cpu_seconds_per_gigabyte = result.cpu_seconds_per_gigabyte();
    DiskSpeeds& speeds = candidate.speeds;
    if (point.workload == Workload::kRead) speeds.read = read_speed(result);
    if (point.workload == Workload::kWrite) speeds.write = write_speed(result);
    if (point.workload == Workload::kReadWrite) {
      speeds.mixed_read = read_speed(result);
      speeds.mixed_write = write_speed(result);
    }
  }
  std::vector<Candidate> ranking;
  for (auto& [setting, candidate] : candidates) {
    const bool both = candidate.speeds.read > 0 && candidate.speeds.write > 0;
    candidate.seconds = both ? candidate.speeds.seconds(traffic) : kInfinite;
    ranking.push_back(std::move(candidate));
  }
  std::stable_sort(ranking.begin(), ranking.end(), better);
  return ranking;
}

Candidate median_of(std::span<const Candidate> turns, const Traffic& traffic) {
  const auto of = [&](auto figure) {
    std::vector<double> values;
    for (const Candidate& turn : turns) values.push_back(figure(turn));
    return tool::median(std::move(values));
  };
  const auto failed = std::find_if(turns.begin(), turns.end(),
                                   [](const Candidate& turn) { return !turn.failure.empty(); });
  if (failed != turns.end()) return *failed;
  Candidate result = turns.front();
  result.speeds.read = of([](const Candidate& c) { return c.speeds.read; });
  result.speeds.write = of([](const Candidate& c) { return c.speeds.write; });
  result.speeds.mixed_read = of([](const Candidate& c) { return c.speeds.mixed_read; });
  result.speeds.mixed_write = of([](const Candidate& c) { return c.speeds.mixed_write; });
  result.cpu_seconds_per_gigabyte =
      of([](const Candidate& c) { return c.cpu_seconds_per_gigabyte; });
  result.seconds = result.speeds.seconds(traffic);
  return result;
}

SearchResult search(const SearchSpace& space, const SearchOptions& options, const Measure& measure,
                    const ElapsedTime& elapsed, const OnRound& on_round) {
  return Searcher(space, options, measure, elapsed, on_round).run();
}

}  // namespace strata::nvme_bench
