#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "access_pattern.h"
#include "block_check.h"
#include "io_memory.h"
#include "point.h"
#include "result.h"
#include "strata/aio/io_channel.h"
#include "strata/base/error.h"
#include "strata/base/log.h"
#include "target_files.h"

namespace strata::nvme_bench {

/// Beyond this, more pread threads wait for each other rather than for the disk.
inline constexpr std::uint32_t kEngineThreadsMax = 64;

/// The phase of all measuring threads. Only the coordinator changes it.
enum class Phase : std::uint8_t { kPreparing, kRamp, kMeasuring, kStopping };

/// The bytes that one thread has moved since counting began, to be shown.
struct alignas(64) Tally {
  std::atomic<std::uint64_t> bytes_read{0};
  std::atomic<std::uint64_t> bytes_written{0};
};

/// The results of a thread.
struct ThreadResult {
  using Time = std::chrono::steady_clock::time_point;

  DirectionResult read;  ///< lacks `seconds`
  DirectionResult write;
  Time begin;  ///< when counting began
  Time end;
  std::string engine;
  std::string first_error;
  std::string unanswered;
};

/// A maker of each measuring thread's engine; empty: the engine that the point names.
using MakeBackend = std::function<std::unique_ptr<aio::Backend>()>;

/// Throws IoError when the point names an engine that cannot be had in `directory`.
void check_engine(const Point& point, const std::filesystem::path& directory, Logger& log);

/// One thread's share of a measurement: a queue of its own, buffers, and a part of every file. All
/// methods run on that thread, as one io_uring belongs to one.
class MeasuringThread {
 public:
  /// `bytes_max` (0: none) and a request's `timeout` end it early. Throws IoError when the engine
  /// cannot be had.
  MeasuringThread(const Point& point, const TargetFiles& files, std::uint32_t index,
                  std::uint64_t bytes_max, std::chrono::nanoseconds timeout,
                  const MakeBackend& make_backend, Logger& log);

  /// Moves blocks until `phase` says to stop or `bytes_max` are moved; requests in flight come home
  /// first. When the engine is lost it ends there, with what it has and the reason.
  ThreadResult run(const std::atomic<Phase>& phase, Tally& tally);

 private:
  using Time = ThreadResult::Time;

  struct Slot {
    aio::Operation operation{};
    std::uint64_t block = 0;
    Time issued;
  };

  void end_without_engine(const IoError& error);
  void move_blocks(const std::atomic<Phase>& phase, Tally& tally);
  void register_with_engine();
  void follow(Phase phase, Time now);
  void issue(Time now);
  void complete(const aio::IoOutcome& outcome, Time now);
  void note_failure(const std::exception_ptr& failure, DirectionResult& direction);
  void note_error(std::string message, DirectionResult& direction);
  [[nodiscard]] bool quota_reached() const;
  [[nodiscard]] BlockPlace place_of(const Slot& slot) const;
  /// Makes a block unlike every other one, at the least cost.
  void fill_for_write(const Slot& slot);

  const Point& point_;
  const TargetFiles& files_;
  const std::uint64_t bytes_max_;
  std::uint64_t part_begin_ = 0;  // start of its part in every file
  AccessPattern pattern_;
  std::optional<BlockCheck> check_;
  std::uint64_t stamps_ = 0;  // a number that no two pages written have in common

  Phase phase_ = Phase::kPreparing;
  bool counting_ = false;
  bool issuing_ = true;
  ThreadResult result_;

  IoMemory memory_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
  std::vector<aio::IoOutcome> outcomes_;
  std::optional<aio::IoChannel> channel_;  // destroyed before the memory
  std::vector<aio::IoRegistration> registrations_;
};

}  // namespace strata::nvme_bench
