#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "strata/aio/backend.h"
#include "strata/base/clock.h"
#include "support/disk_fault.h"

namespace strata::aio {

/// A fault that strikes with this probability, in [0, 1], every request that it can happen to.
struct FaultChance {
  Fault fault;
  double probability = 0;
};

/// How fast a made-up disk is, and how good.
struct DiskOptions {
  std::uint64_t seed = 1;
  std::uint32_t depth = 32;                       ///< requests in flight, by each backend
  std::chrono::nanoseconds latency_min{20'000};   ///< of one request on an idle disk
  std::chrono::nanoseconds latency_max{200'000};  ///< uniform between the two
  double read_bytes_per_second = 4e9;             ///< requests of a kind pass one after the other
  double write_bytes_per_second = 4e9;
  double overlap = 0;  ///< of reads and writes: 0, they share the disk's time; 1, they do not
  std::vector<FaultChance> chances{};  ///< at most one of them strikes a request
};

/// Faults for requests that a test chooses, before chance has a say.
struct FaultRule {
  Fault fault;
  std::function<bool(const Request&)> chooses = [](const Request&) { return true; };
  std::uint64_t skipped = 0;  ///< requests that it lets pass first
  std::uint64_t times = 1;    ///< requests that it strikes then
};

/// What became of one request, for comparing runs.
struct DiskEvent {
  OpKind kind = OpKind::kRead;
  std::uint32_t file = 0;  ///< in the order of first use
  std::uint64_t offset = 0;
  std::uint32_t bytes = 0;
  Fault fault;
  std::chrono::nanoseconds accepted{0};  ///< since the disk was made
  std::chrono::nanoseconds due{0};       ///< 0: never

  bool operator==(const DiskEvent&) const = default;
};

/// A disk of one seed's making over real files, whose bytes move when a request is due: until then
/// its buffer is really in use. The same requests meet the same fates in the same order.
///
/// Times are real, or those of a ManualClock: then a backend does not wait but sets the clock to
/// when the wait is over. Under an IoChannel with the same clock everything above runs on one
/// thread and repeats to the nanosecond; an IoQueue, whose thread waits while nothing happens, goes
/// with real time only.
///
/// The bytes of a kind pass one request after the other, at its rate; while both kinds pass, each
/// is slowed to 1 / (2 - overlap) of it. So reads that take r alone and writes that take w end
/// after max(r, w) + (1 - overlap) min(r, w). Thread-safe.
class SimulatedDisk {
 public:
  /// Throws ConfigError for options out of range.
  explicit SimulatedDisk(const DiskOptions& options = {}, ManualClock* clock = nullptr);

  /// The next request of this kind has the fault.
  void inject(OpKind kind, Fault fault);
  void inject(FaultRule rule);
  /// Other chances from now on.
  void set_chances(std::vector<FaultChance> chances);
  /// Nothing comes back between the two.
  void hold();
  void release();

  /// Remembers every request from now on.
  void start_trace();
  [[nodiscard]] std::vector<DiskEvent> trace() const;

 private:
  friend class SimulatedBackend;

  /// A request on its way, with what will happen to it.
  struct Journey {
    class SimulatedBackend* backend = nullptr;
    std::uint64_t number = 0;  // of the backend's, in the order of acceptance
    Request request{};
    Fault fault{};
    std::uint64_t detail = 0;
    std::chrono::nanoseconds latency{0};  // once its bytes have passed
    double left = 0;                      // nanoseconds until they have, were it alone
    Time due{};
    std::size_t event = SIZE_MAX;  // in the trace, if it is

    /// For a queue whose top is the one due first.
    bool operator<(const Journey& other) const {
      return due != other.due ? due > other.due : number > other.number;
    }
  };

  [[nodiscard]] Time now() const;
  void accept(SimulatedBackend& backend, const Request& request, std::uint64_t number);
  Fault draw_fault(const Request& request, double draw);
  void note(const Journey& journey);
  double fraction();
  /// Lets bytes pass until `time`; hands over to their backends the requests whose bytes have.
  void pass_until(Time time);
  /// Whole nanoseconds until the first bytes that are passing have passed; infinite where none are.
  [[nodiscard]] double until_next() const;
  [[nodiscard]] double slowness() const;
  /// When the disk has something to do next; Time::max(): not before somebody asks.
  [[nodiscard]] Time next_time() const;
  void forget(const SimulatedBackend& backend);

  DiskOptions options_;
  ManualClock* const clock_;
  const Time made_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::mt19937_64 random_;
  std::vector<FaultRule> rules_;
  bool held_ = false;
  std::vector<Journey> passing_[2];  // by OpKind; the front's bytes pass
  Time passed_until_;
  bool traces_ = false;
  std::vector<DiskEvent> trace_;
  std::map<int, std::uint32_t> files_;  // numbers of the descriptors seen
};

/// An I/O engine on that disk, of which there may be several.
[[nodiscard]] std::unique_ptr<Backend> make_backend(std::shared_ptr<SimulatedDisk> disk);
/// One on a disk of its own, in real time.
[[nodiscard]] std::unique_ptr<Backend> make_simulated_backend(const DiskOptions& options);

}  // namespace strata::aio
