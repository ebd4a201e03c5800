#pragma once

#include <cstdint>
#include <vector>

#include "dataset.h"

namespace strata::tool {

/// Sequences and, for every token, the one that follows it: row-major [rows, length].
struct Batch {
  std::int64_t rows = 0;
  std::int64_t length = 0;
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> targets;
};

/// Chooses windows of `length` tokens (and the one after) out of a range and reads them. Batch
/// `index` is a pure function of the constructor's arguments and `index`: nothing to save or
/// restore. Only the batch itself is in memory.
class BatchSampler {
 public:
  /// Windows at uniformly random places, as in nanoGPT: the order of training.
  [[nodiscard]] static BatchSampler random(const TokenRange& range, std::int64_t rows,
                                           std::int64_t length, std::uint64_t seed);

  /// `batches` batches of windows spread evenly over the range, the first at its beginning and the
  /// last at its end: the same for every evaluation. They overlap when there are more than fit side
  /// by side.
  [[nodiscard]] static BatchSampler even(const TokenRange& range, std::int64_t rows,
                                         std::int64_t length, std::int64_t batches);

  /// Throws DataError and IoError, as TokenData::read does.
  [[nodiscard]] Batch batch(std::uint64_t index) const;

  [[nodiscard]] std::int64_t length() const { return length_; }

  /// First token, within the range, of window `window` (row r of batch i is window i * rows + r).
  [[nodiscard]] std::uint64_t window_begin(std::uint64_t window) const;

 private:
  BatchSampler(const TokenRange& range, std::int64_t rows, std::int64_t length);

  TokenRange range_;
  std::int64_t rows_;
  std::int64_t length_;
  std::uint64_t places_;            ///< where a window can begin: [0, places_)
  std::uint64_t even_windows_ = 0;  ///< 0: random
  std::uint64_t seed_ = 0;
};

}  // namespace strata::tool
