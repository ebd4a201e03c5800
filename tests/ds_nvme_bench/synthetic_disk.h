#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <random>

#include "runner.h"
#include "search_space.h"
#include "strata/base/error.h"

namespace strata::nvme_bench {

/// A disk that exists as a formula: requests in flight over the latency of one, up to what the
/// medium, the engine's CPU time and the memory in flight allow; with seeded noise.
struct SyntheticDisk {
  struct EngineCost {
    double seconds_per_request = 2e-6;  ///< a thread's time for each
    double depth_max = 1e9;             ///< most that it really has in flight
    bool works = true;
  };

  double read_max = 7e9;
  double write_max = 5e9;
  double latency_seconds = 80e-6;
  double channel = 1.5e9;          ///< bytes per second of one request by itself
  double mu = 0.5;                 ///< overlap of the two directions
  double cache_bytes = 1e12;       ///< bytes in flight, beyond which it loses `overload`
  double overload = 0.0;           ///< share of the speed lost for each doubling
  double large_block_penalty = 0;  ///< share of the speed lost for each doubling over 1 MiB
  double fast_bytes = 1e18;        ///< written, after which writes keep `slow_share` of their speed
  double slow_share = 1;
  std::chrono::nanoseconds set_up{0};  ///< time of a measurement beside its run time
  double noise = 0;                    ///< uniform, plus and minus
  std::map<IoBackend, EngineCost> engines = {
      {IoBackend::kIoUring, {}}, {IoBackend::kLibaio, {}}, {IoBackend::kThreads, {8e-6, 16}}};

  /// Bytes per second of one direction, without noise.
  [[nodiscard]] double speed(const Setting& setting, double most) const {
    const EngineCost& engine = engines.at(setting.engine);
    const double block = static_cast<double>(setting.block_bytes);
    const double in_flight = std::min<double>(setting.depth, engine.depth_max) * setting.threads;
    double speed = in_flight * block / (latency_seconds + block / channel);
    speed = std::min(speed, setting.threads * block / engine.seconds_per_request);
    speed = 1 / (1 / speed + 1 / (most * 4));  // queues fill up gradually
    speed = std::min(speed, most);
    const double excess = std::log2(std::max(1.0, in_flight * block / cache_bytes));
    speed *= std::max(0.2, 1 - overload * excess);
    return speed * (1 - large_block_penalty * std::max(0.0, std::log2(block / (1 << 20))));
  }

  [[nodiscard]] DiskSpeeds speeds(const Setting& setting) const {
    DiskSpeeds speeds{.read = speed(setting, read_max), .write = speed(setting, write_max)};
    // Half and half: as many bytes x each way, in max + (1 - mu) min of the two times.
    const double slow = std::min(speeds.read, speeds.write);
    const double fast = std::max(speeds.read, speeds.write);
    speeds.mixed_read = speeds.mixed_write = 1 / (1 / slow + (1 - mu) / fast);
    return speeds;
  }

  [[nodiscard]] double seconds(const Setting& setting) const {
    return speeds(setting).seconds(kTrainingTraffic);
  }

  /// Measures by the formula and moves `clock` on.
  [[nodiscard]] Measure measure(std::chrono::nanoseconds& clock, std::mt19937& random) const {
    return
        [this, &clock, &random, written = 0.0](const Point& point, const Limits& limits) mutable {
          if (!engines.at(point.engine).works) throw IoError("io_uring_setup: EPERM", 1);
          clock += limits.ramp + limits.runtime + set_up;
          const DiskSpeeds speeds =
              this->speeds({point.engine, point.block_bytes, point.depth, point.threads});
          const double seconds = std::chrono::duration<double>(limits.runtime).count();
          const double share = written > fast_bytes ? slow_share : 1.0;
          const double luck = std::uniform_real_distribution<double>(1 - noise, 1 + noise)(random);
          const bool mixed = point.workload == Workload::kReadWrite;
          PointResult result;
          result.point = point;
          result.seconds = seconds;
          result.system_cpu_seconds = 0.1 * seconds;
          if (point.workload != Workload::kWrite) {
            const double speed = mixed ? share * speeds.mixed_read : speeds.read;
            result.read.bytes = static_cast<std::uint64_t>(speed * luck * seconds);
            result.read.seconds = seconds;
          }
          if (point.workload != Workload::kRead) {
            const double speed = share * (mixed ? speeds.mixed_write : speeds.write);
            result.write.bytes = static_cast<std::uint64_t>(speed * luck * seconds);
            written += speed * seconds;
            result.write.seconds = seconds;
          }
          return result;
        };
  }
};

}  // namespace strata::nvme_bench
