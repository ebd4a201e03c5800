#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "row_order.h"
#include "row_source.h"

namespace strata::tool {

/// Sequences and, for every token, the one that follows it, or kNoLoss: row-major [rows, length].
struct Batch {
  std::int64_t rows = 0;
  std::int64_t length = 0;
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> targets;
  std::vector<std::int64_t> positions = {};  ///< of packed documents; empty: every row is one
};

/// Chooses sequences of at most `length` tokens and reads them: windows (and the token after) out
/// of a range, or the rows of a source. Batch `index` is a pure function of the constructor's
/// arguments and `index`: nothing to save or restore. Only the batch itself is in memory.
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

  /// Rows of a source in an order. Where that has none the row of another place stands without
  /// loss. Rows of unequal lengths are filled up to the longest of the batch with zeros without
  /// loss.
  [[nodiscard]] static BatchSampler of_rows(std::shared_ptr<const RowSource> source,
                                            std::int64_t rows, std::int64_t length,
                                            const RowOrder& order);

  /// Throws DataError and IoError, as TokenData::read does.
  [[nodiscard]] Batch batch(std::uint64_t index) const;

  /// Tokens that bear loss in `batches` batches from `first` on; nullopt: all tokens do, always.
  [[nodiscard]] std::optional<std::uint64_t> bearing(std::uint64_t first,
                                                     std::uint64_t batches) const;

  /// Sequences of an epoch; nullopt where there is none.
  [[nodiscard]] std::optional<std::uint64_t> epoch_rows() const;

  [[nodiscard]] std::int64_t length() const { return length_; }

  /// First token, within the range, of window `window` (row r of batch i is window i * rows + r).
  [[nodiscard]] std::uint64_t window_begin(std::uint64_t window) const;

 private:
  BatchSampler(const TokenRange& range, std::int64_t rows, std::int64_t length);
  BatchSampler(std::shared_ptr<const RowSource> source, std::int64_t rows, std::int64_t length,
               const RowOrder& order);
  [[nodiscard]] Batch batch_of_rows(std::uint64_t index) const;

  std::shared_ptr<const RowSource> source_;  ///< null: windows of the range
  std::optional<RowOrder> order_;
  TokenRange range_;
  std::int64_t rows_;
  std::int64_t length_;
  std::uint64_t places_ = 0;        ///< where a window can begin: [0, places_)
  std::uint64_t even_windows_ = 0;  ///< 0: random
  std::uint64_t seed_ = 0;
};

}  // namespace strata::tool
