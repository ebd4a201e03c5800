#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace strata::nvme_bench {

/// Counts of latencies in buckets whose width is 1/64 of their value (fio's resolution: six bits),
/// so that a percentile is off by at most 1.6 %. From 0 ns to 2^36 ns (69 s); longer ones count as
/// that. Nothing is allocated. Not thread-safe; merge those of several threads.
class LatencyHistogram {
 public:
  void add(std::chrono::nanoseconds latency);
  void merge(const LatencyHistogram& other);

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::chrono::nanoseconds min() const noexcept;
  [[nodiscard]] std::chrono::nanoseconds max() const noexcept;
  [[nodiscard]] double mean_ns() const noexcept;
  [[nodiscard]] double stddev_ns() const noexcept;
  /// The latency that `percent` (0 to 100) of the requests did not exceed; 0 when there are none.
  [[nodiscard]] std::chrono::nanoseconds percentile(double percent) const;

 private:
  static constexpr int kSubBits = 6;
  static constexpr int kExponents = 36 - kSubBits + 1;

  std::array<std::uint64_t, kExponents << kSubBits> buckets_{};
  std::uint64_t count_ = 0;
  double sum_ns_ = 0;
  double sum_of_squares_ns_ = 0;
  std::uint64_t min_ns_ = ~std::uint64_t{0};
  std::uint64_t max_ns_ = 0;
};

}  // namespace strata::nvme_bench
