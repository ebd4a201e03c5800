#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "finetune_options.h"
#include "interruption.h"
#include "strata/formats/token_data.h"

namespace strata::tool {

/// A stretch of a token file. The file must outlive it.
struct TokenRange {
  const formats::TokenData* file = nullptr;
  std::uint64_t begin = 0;
  std::uint64_t count = 0;
};

/// A checksum of all tokens of the range, whatever file and encoding they are in. Reads them once.
[[nodiscard]] std::uint64_t checksum(const TokenRange& range, const Interruption& interruption);

/// The data of a run: the training data and, when asked for, the part held out of it.
class Dataset {
 public:
  /// Opens --data and --val-data, or splits --data by --val-fraction: its last part is held out.
  /// Reads both files once, so that every token is known to be one of the vocabulary's.
  /// Throws DataError for a part shorter than a sequence and the token after it, and for text
  /// beside token ids; what TokenData throws; Interrupted.
  Dataset(const FinetuneOptions& options, std::int64_t vocab_size, std::int64_t seq_len,
          const Interruption& interruption);

  [[nodiscard]] const TokenRange& train() const { return train_; }
  [[nodiscard]] const std::optional<TokenRange>& validation() const { return validation_; }
  [[nodiscard]] bool is_text() const;

 private:
  std::unique_ptr<formats::TokenData> train_file_;
  std::unique_ptr<formats::TokenData> validation_file_;  ///< null unless --val-data
  TokenRange train_;
  std::optional<TokenRange> validation_;
};

}  // namespace strata::tool
