#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "document_store.h"
#include "strata/formats/token_data.h"

namespace strata::tool {

/// The target of a token that bears no loss, models::kNoTarget.
inline constexpr std::int64_t kNoLoss = -100;

/// A stretch of a token file. The file must outlive it.
struct TokenRange {
  const formats::TokenData* file = nullptr;
  std::uint64_t begin = 0;
  std::uint64_t count = 0;
};

/// A sequence to train on: tokens, and for each the one that follows it, or kNoLoss.
struct Row {
  std::vector<std::int64_t> tokens, targets;
  std::vector<std::int64_t> positions;  ///< in the documents that it is packed of; empty: it is one
};

/// Sequences by their numbers.
class RowSource {
 public:
  RowSource() = default;
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;
  virtual ~RowSource() = default;

  [[nodiscard]] virtual std::uint64_t count() const = 0;
  /// Tokens of a row that bear loss, at least 1.
  [[nodiscard]] virtual std::uint64_t bearing(std::uint64_t row) const = 0;
  /// Throws IoError and DataError.
  [[nodiscard]] virtual Row row(std::uint64_t row) const = 0;
};

/// Windows of a range that lie side by side from its beginning; what is left at its end is none.
class WindowRows final : public RowSource {
 public:
  /// `length` tokens each; the range has one more at least.
  WindowRows(const TokenRange& range, std::int64_t length);
  [[nodiscard]] std::uint64_t count() const override;
  [[nodiscard]] std::uint64_t bearing(std::uint64_t /*row*/) const override { return length_; }
  [[nodiscard]] Row row(std::uint64_t row) const override;

 private:
  TokenRange range_;
  std::uint64_t length_;
};

/// How documents become sequences.
struct RowLayout {
  std::int64_t length = 0;     ///< most tokens of a sequence
  bool packs = true;           ///< several documents in one, as far as they fit
  bool cuts_in_parts = false;  ///< what is longer goes on in another part; else its end is left out
};

/// What became of documents.
struct RowCounts {
  std::uint64_t documents = 0;
  std::uint64_t longer = 0;       ///< documents that are longer than a sequence
  std::uint64_t lost_tokens = 0;  ///< of these, left out
  std::uint64_t silent = 0;       ///< documents and parts left out since nothing in them bears loss
  std::uint64_t tokens = 0;       ///< in all rows, without padding
  std::uint64_t bearing = 0;      ///< of these, with loss
};

/// Documents, one in each sequence or packed: the longest first, each into the fullest sequence
/// that has room for it ("best fit decreasing").
class DocumentRows final : public RowSource {
 public:
  /// Of `documents` of the store from `first` on. Reads them once.
  DocumentRows(std::shared_ptr<const DocumentStore> store, std::uint64_t first,
               std::uint64_t documents, const RowLayout& layout);
  [[nodiscard]] std::uint64_t count() const override { return row_ends_.size(); }
  [[nodiscard]] std::uint64_t bearing(std::uint64_t row) const override { return bearing_[row]; }
  /// A packed row is filled up to the length with a document of zeros without loss.
  [[nodiscard]] Row row(std::uint64_t row) const override;

  [[nodiscard]] const RowCounts& counts() const { return counts_; }
  [[nodiscard]] const RowLayout& layout() const { return layout_; }

 private:
  struct Part {
    std::uint64_t document = 0, begin = 0;
    std::uint32_t tokens = 0;  ///< inputs; one more is read
    std::uint32_t bearing = 0;
  };
  void add_parts_of(std::uint64_t document);
  void pack();

  std::shared_ptr<const DocumentStore> store_;
  RowLayout layout_;
  RowCounts counts_;
  std::vector<Part> parts_;              ///< in the order of rows
  std::vector<std::uint64_t> row_ends_;  ///< of their parts
  std::vector<std::uint64_t> bearing_;
};

}  // namespace strata::tool
