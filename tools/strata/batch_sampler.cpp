#include "batch_sampler.h"

#include <algorithm>
#include <string>

#include "strata/base/error.h"

namespace strata::tool {
namespace {

// A high-quality 64-bit mixing function (the finalizer of SplitMix64): neighbouring inputs give
// unrelated outputs, which makes a random generator of a plain counter.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

// Maps 64 random bits to [0, count) by the high half of their product.
std::uint64_t scale_down(std::uint64_t random, std::uint64_t count) {
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(random) * count) >> 64);
}

}  // namespace

BatchSampler::BatchSampler(const TokenRange& range, std::int64_t rows, std::int64_t length)
    : range_(range), rows_(rows), length_(length) {
  STRATA_CHECK(rows > 0 && length > 0 && range.count > static_cast<std::uint64_t>(length),
               std::to_string(rows) + " rows of " + std::to_string(length) + " out of " +
                   std::to_string(range.count));
  places_ = range.count - static_cast<std::uint64_t>(length);
}

BatchSampler BatchSampler::random(const TokenRange& range, std::int64_t rows, std::int64_t length,
                                  std::uint64_t seed) {
  BatchSampler sampler(range, rows, length);
  sampler.seed_ = seed;
  return sampler;
}

BatchSampler BatchSampler::even(const TokenRange& range, std::int64_t rows, std::int64_t length,
                                std::int64_t batches) {
  STRATA_CHECK(batches > 0, std::to_string(batches));
  BatchSampler sampler(range, rows, length);
  sampler.even_windows_ = static_cast<std::uint64_t>(batches * rows);
  return sampler;
}

std::uint64_t BatchSampler::window_begin(std::uint64_t window) const {
  if (even_windows_ == 0) return scale_down(mix(mix(seed_) ^ window), places_);
  const double last = static_cast<double>(std::max<std::uint64_t>(even_windows_ - 1, 1));
  const auto begin = static_cast<std::uint64_t>(static_cast<double>(window % even_windows_) / last *
                                                static_cast<double>(places_ - 1));
  return std::min(begin, places_ - 1);
}

Batch BatchSampler::batch(std::uint64_t index) const {
  const auto length = static_cast<std::size_t>(length_);
  Batch batch;
  batch.rows = rows_;
  batch.length = length_;
  std::vector<std::int64_t> window(length + 1);
  for (std::uint64_t row = 0; row < static_cast<std::uint64_t>(rows_); ++row) {
    range_.file->read(range_.begin + window_begin(index * static_cast<std::uint64_t>(rows_) + row),
                      window);
    batch.tokens.insert(batch.tokens.end(), window.begin(), window.end() - 1);
    batch.targets.insert(batch.targets.end(), window.begin() + 1, window.end());
  }
  return batch;
}

}  // namespace strata::tool
