#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "strata/base/io_backend.h"
#include "strata/base/units.h"

/// \file
/// One point of measurement: the work asked of the disks, in fio's words.

namespace strata::nvme_bench {

/// The workload. Sequential ones walk through each thread's part of the files and begin again;
/// random ones choose a block anywhere in it.
enum class Workload : std::uint8_t {
  kRead,
  kWrite,
  kReadWrite,  ///< sequential; each request a read or a write, half and half
  kRandRead,
  kRandWrite,
  kRandRw,
  /// A training step with all state on disk (DESIGN: bf16, fp32 moments): of 26 bytes moved per
  /// parameter, two passes read the weights alone (forward, backward: 2 + 2), then one pass
  /// reads 10 and writes 12 side by side (the optimizer's windows). Sequential.
  kTrainStep,
};

/// The bytes of a parameter and step with all state on disk (bf16, fp32 moments), as DESIGN has
/// them: the weight is read for forward and for backward, the optimizer reads master and moments,
/// and writes them and the weight.
inline constexpr std::uint64_t kTrainWeightBytes = 2;
inline constexpr std::uint64_t kTrainBytesAtRest = 12;
inline constexpr std::uint64_t kTrainBytesRead = 2 * kTrainWeightBytes + 10;
inline constexpr std::uint64_t kTrainBytesWritten = kTrainBytesAtRest;
inline constexpr std::uint64_t kTrainBytesMoved = kTrainBytesRead + kTrainBytesWritten;

struct Point {
  Workload workload = Workload::kRead;
  IoBackend engine = IoBackend::kAuto;  ///< engine that does the requests
  std::uint64_t block_bytes = 1_MiB;    ///< size of one request; a multiple of 512
  std::uint32_t depth = 32;             ///< requests in flight, of each thread
  std::uint32_t threads = 1;            ///< each has its own queue and part of every file
  bool direct = true;                   ///< O_DIRECT; false: through the page cache
  bool huge_pages = true;               ///< huge pages for the buffers
  bool prepare = true;                  ///< registered buffers and files, where the engine has them
  /// Fills each block written with its place and a checksum, and checks every block read.
  bool verify = false;

  bool operator==(const Point&) const = default;
};

/// The time-out of Strata's own queues.
inline constexpr std::chrono::seconds kUsualTimeout{90};
inline constexpr std::chrono::milliseconds kTimeoutMin{1};

/// Limits of a measurement: it ends at the first of these.
struct Limits {
  std::chrono::nanoseconds runtime = std::chrono::seconds(5);
  std::uint64_t bytes = 0;  ///< moved in both directions; 0: no limit
  /// Time at the start that is left out of the result.
  std::chrono::nanoseconds ramp = std::chrono::milliseconds(200);
  /// Time-out of one request: when it is not answered by then, the measurement is over.
  std::chrono::nanoseconds timeout = kUsualTimeout;
};

/// Throws ConfigError for numbers that no disk takes: a depth of 0, a block of 100 bytes.
void check(const Point& point);

/// Throws ConfigError when a thread's part of files of `file_bytes` each is too small for the
/// point.
void check_fits(const Point& point, std::uint64_t file_bytes, std::size_t files);

/// Whether any of its requests is a read.
[[nodiscard]] constexpr bool has_reads(Workload workload) {
  return workload != Workload::kWrite && workload != Workload::kRandWrite;
}

/// Whether any of its requests is a write.
[[nodiscard]] constexpr bool has_writes(Workload workload) {
  return workload != Workload::kRead && workload != Workload::kRandRead;
}

/// The name: fio's ("randread") or ours ("trainstep").
[[nodiscard]] std::string_view name_of(Workload workload);
/// Find a name's meaning. Throw a ConfigError that lists all names for any other.
[[nodiscard]] Workload parse_workload(std::string_view text);
[[nodiscard]] IoBackend parse_engine(std::string_view text);

}  // namespace strata::nvme_bench
