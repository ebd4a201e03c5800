#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "latency_histogram.h"
#include "point.h"

namespace strata::nvme_bench {

/// The result of one direction.
struct DirectionResult {
  std::uint64_t bytes = 0;
  std::uint64_t requests = 0;
  std::uint64_t short_transfers = 0;  ///< a mix's are all with the direction of more requests
  std::uint64_t errors = 0;
  double seconds = 0;        ///< the point's, 0 when nothing went this way
  LatencyHistogram latency;  ///< from issuing a request to handing it back

  /// Decimal units, as disks are sold.
  [[nodiscard]] double gigabytes_per_second() const {
    return seconds > 0 ? static_cast<double>(bytes) / seconds / 1e9 : 0;
  }
  [[nodiscard]] double iops() const {
    return seconds > 0 ? static_cast<double>(requests) / seconds : 0;
  }
};

/// One window of the measurement, for steady state and for curves over time.
struct Window {
  double seconds = 0;  ///< its length
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
};

/// The outcome of a point.
struct PointResult {
  Point point;
  std::string engine;  ///< engine in use, and why ("threads (io_uring: EPERM, ...)")
  DirectionResult read;
  DirectionResult write;
  double seconds = 0;             ///< measured time, after the ramp
  double user_cpu_seconds = 0;    ///< measuring threads, the engine's, io_uring's
  double system_cpu_seconds = 0;  ///< CPU time of the same threads
  std::vector<Window> windows;    ///< windows of 100 ms
  std::string first_error;        ///< the first failed request's message; "": none
  std::string unanswered;         ///< why it ended early, when a request never came back

  [[nodiscard]] double gigabytes_per_second() const {
    return read.gigabytes_per_second() + write.gigabytes_per_second();
  }
  /// CPU seconds for a GB moved.
  [[nodiscard]] double cpu_seconds_per_gigabyte() const {
    const double gigabytes = static_cast<double>(read.bytes + write.bytes) / 1e9;
    return gigabytes > 0 ? (user_cpu_seconds + system_cpu_seconds) / gigabytes : 0;
  }
};

}  // namespace strata::nvme_bench
