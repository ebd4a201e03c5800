#include "batch_sampler.h"

#include <algorithm>
#include <string>
#include <utility>

#include "counter_random.h"
#include "strata/base/error.h"

namespace strata::tool {
BatchSampler::BatchSampler(const TokenRange& range, std::int64_t rows, std::int64_t length)
    : range_(range), rows_(rows), length_(length) {
  STRATA_CHECK(rows > 0 && length > 0 && range.count > static_cast<std::uint64_t>(length),
               std::to_string(rows) + " rows of " + std::to_string(length) + " out of " +
                   std::to_string(range.count));
  places_ = range.count - static_cast<std::uint64_t>(length);
}

BatchSampler::BatchSampler(std::shared_ptr<const RowSource> source, std::int64_t rows,
                           std::int64_t length, const RowOrder& order)
    : source_(std::move(source)), order_(order), rows_(rows), length_(length) {}

BatchSampler BatchSampler::of_rows(std::shared_ptr<const RowSource> source, std::int64_t rows,
                                   std::int64_t length, const RowOrder& order) {
  return {std::move(source), rows, length, order};
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
  if (source_) return batch_of_rows(index);
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

Batch BatchSampler::batch_of_rows(std::uint64_t index) const {
  std::vector<Row> rows;
  std::size_t longest = 0;
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(rows_); ++i) {
    const std::uint64_t place = index * static_cast<std::uint64_t>(rows_) + i;
    const std::optional<std::uint64_t> number = order_->row(place);
    Row& row = rows.emplace_back(source_->row(number.value_or(place % source_->count())));
    if (!number) std::ranges::fill(row.targets, kNoLoss);
    longest = std::max(longest, row.tokens.size());
  }
  Batch batch{
      .rows = rows_, .length = static_cast<std::int64_t>(longest), .tokens = {}, .targets = {}};
  for (Row& row : rows) {
    row.tokens.resize(longest, 0);
    row.targets.resize(longest, kNoLoss);
    batch.tokens.insert(batch.tokens.end(), row.tokens.begin(), row.tokens.end());
    batch.targets.insert(batch.targets.end(), row.targets.begin(), row.targets.end());
    batch.positions.insert(batch.positions.end(), row.positions.begin(), row.positions.end());
  }
  return batch;
}

std::optional<std::uint64_t> BatchSampler::bearing(std::uint64_t first,
                                                   std::uint64_t batches) const {
  if (!source_) return std::nullopt;
  const auto rows = static_cast<std::uint64_t>(rows_);
  std::uint64_t sum = 0;
  for (std::uint64_t place = first * rows; place < (first + batches) * rows; ++place) {
    const std::optional<std::uint64_t> row = order_->row(place);
    if (row) sum += source_->bearing(*row);
  }
  return sum;
}

std::optional<std::uint64_t> BatchSampler::epoch_rows() const {
  return source_ ? std::make_optional(source_->count()) : std::nullopt;
}

}  // namespace strata::tool
