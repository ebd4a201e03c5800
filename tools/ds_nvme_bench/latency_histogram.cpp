#include "latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace strata::nvme_bench {
namespace {

constexpr int kSubBits = 6;
constexpr std::uint64_t kLongest = (std::uint64_t{1} << 36) - 1;

/// Values below 2^kSubBits have a bucket each; above, every power of two is cut into 2^kSubBits.
std::size_t bucket_of(std::uint64_t ns) {
  if (ns < (1u << kSubBits)) return ns;
  const int shift = std::bit_width(ns) - 1 - kSubBits;
  return (static_cast<std::size_t>(shift) << kSubBits) + (ns >> shift);
}

/// The largest value that falls into a bucket.
std::uint64_t upper_end_of(std::size_t bucket) {
  if (bucket < (1u << (kSubBits + 1))) return bucket;
  const auto shift = static_cast<int>(bucket >> kSubBits) - 1;
  const std::uint64_t first = bucket - (static_cast<std::uint64_t>(shift) << kSubBits);
  return ((first + 1) << shift) - 1;
}

}  // namespace

void LatencyHistogram::add(std::chrono::nanoseconds latency) {
  const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(0, latency.count()));
  ++buckets_[bucket_of(std::min(ns, kLongest))];
  ++count_;
  const auto value = static_cast<double>(ns);
  sum_ns_ += value;
  sum_of_squares_ns_ += value * value;
  min_ns_ = std::min(min_ns_, ns);
  max_ns_ = std::max(max_ns_, ns);
}

void LatencyHistogram::merge(const LatencyHistogram& other) {
  for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ns_ += other.sum_ns_;
  sum_of_squares_ns_ += other.sum_of_squares_ns_;
  min_ns_ = std::min(min_ns_, other.min_ns_);
  max_ns_ = std::max(max_ns_, other.max_ns_);
}

std::chrono::nanoseconds LatencyHistogram::min() const noexcept {
  return std::chrono::nanoseconds(count_ > 0 ? min_ns_ : 0);
}

std::chrono::nanoseconds LatencyHistogram::max() const noexcept {
  return std::chrono::nanoseconds(max_ns_);
}

double LatencyHistogram::mean_ns() const noexcept {
  return count_ > 0 ? sum_ns_ / static_cast<double>(count_) : 0;
}

double LatencyHistogram::stddev_ns() const noexcept {
  if (count_ < 2) return 0;
  const auto count = static_cast<double>(count_);
  const double squares = sum_of_squares_ns_ - sum_ns_ * sum_ns_ / count;
  return std::sqrt(std::max(0.0, squares) / (count - 1));
}

std::chrono::nanoseconds LatencyHistogram::percentile(double percent) const {
  if (count_ == 0) return {};
  const double share = std::clamp(percent, 0.0, 100.0) / 100 * static_cast<double>(count_);
  const auto rank =
      std::clamp<std::uint64_t>(static_cast<std::uint64_t>(std::ceil(share - 1e-9)), 1, count_);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen < rank) continue;
    // The last bucket holds everything that was longer, too.
    const bool last = i + 1 == buckets_.size();
    return std::chrono::nanoseconds(last ? max_ns_ : std::clamp(upper_end_of(i), min_ns_, max_ns_));
  }
  return max();
}

}  // namespace strata::nvme_bench
