#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/models/attention_scores.h"

namespace strata::models {

class ModelConfig;

/// The keys and values of tokens that a model has seen, of several sequences side by side, so that
/// the next tokens cost one pass over the weights and nothing of those before is computed again
/// (CausalLm::next_token_logits). Sequences begin at place 0, however long they are: no padding
/// stands before a short one.
///
/// Memory: LibTorch's, on the device where the model computes, taken as a layer comes for the first
/// time: `bytes` in all. Thread: one at a time.
class KeyValueCache {
 public:
  /// For `rows` sequences of at most `positions` tokens. Throws UsageError unless both are positive
  /// and `positions` is within the model's context.
  KeyValueCache(const ModelConfig& config, std::int64_t rows, std::int64_t positions);

  /// The bytes of such a cache, in the compute format.
  [[nodiscard]] static std::uint64_t bytes(const ModelConfig& config, Precision precision,
                                           std::int64_t rows, std::int64_t positions);

  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t positions() const { return positions_; }
  /// Tokens that each row holds.
  [[nodiscard]] const std::vector<std::int64_t>& lengths() const { return lengths_; }

  // ---- for models
  // --------------------------------------------------------------------------------

  /// The next tokens of each row, while they go through the layers: of [rows, T] the first
  /// counts[r] of row r, from its length on. Counts are from 0 to T and leave a row within
  /// `positions`; UsageError otherwise.
  void begin(const torch::Tensor& tokens, const std::vector<std::int64_t>& counts);
  /// Adds the counts to the lengths.
  void end();

  /// Whether no row holds a token yet: what comes looks at nothing but itself.
  [[nodiscard]] bool is_first() const { return is_first_; }
  /// The places [rows, T] of the tokens (int64). What a row does not count has place `positions`.
  [[nodiscard]] const torch::Tensor& places() const { return places_; }
  /// Which of the tokens [rows, T] count (bool).
  [[nodiscard]] torch::Tensor counted() const { return places_.lt(positions_); }
  /// For each row the index of its last token among the T; 0 where it counts none.
  [[nodiscard]] const torch::Tensor& last() const { return last_; }

  /// Some rows of one layer: the part of a cache that attention works with.
  struct Part {
    KeyValueCache& cache;
    std::int64_t layer;
    std::int64_t first_row = 0, rows = 0;

    /// The places [rows, T] of these rows' tokens.
    [[nodiscard]] torch::Tensor places() const;
    [[nodiscard]] bool is_first() const { return cache.is_first(); }
    /// Keeps keys and values [rows, heads, T, width] of the tokens, and returns those of all tokens
    /// up to the longest row's end, [rows, heads, L, width].
    std::pair<torch::Tensor, torch::Tensor> extend(const torch::Tensor& keys,
                                                   const torch::Tensor& values) const;
  };

 private:
  struct Layer {
    torch::Tensor keys, values;  // [rows, heads, positions + 1, width]; undefined at first
  };

  std::int64_t rows_, positions_;
  std::vector<Layer> layers_;
  std::vector<std::int64_t> lengths_, counts_;
  std::int64_t end_ = 0;  // where the longest row ends with what has begun
  bool is_first_ = true;
  torch::Tensor places_, last_;
};

/// Attention of the tokens of `part`: queries [B, heads, T, width] look at the keys and values that
/// the part keeps, those given included, up to their own place; with a window at so many of them.
/// Heads of queries may share one of keys and values. Returns [B, heads, T, width].
[[nodiscard]] torch::Tensor attend_to_kept(const KeyValueCache::Part& part,
                                           const torch::Tensor& queries, const torch::Tensor& keys,
                                           const torch::Tensor& values, std::int64_t window = 0,
                                           const AttentionScores& scores = {});

}  // namespace strata::models
