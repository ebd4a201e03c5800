#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "models/documents.h"
#include "strata/models/attention_scores.h"
#include "strata/models/key_value_cache.h"

/// \file
/// Attention of all families, and which tokens see which.

namespace strata::models {

/// softmax(scores) values: of queries [B, heads, T, width], and keys and values [B, heads, L,
/// width]. `mask` (bool, [..., T, L]) is true for the pairs that see each other; undefined: each
/// token sees those before it and itself, and L is T. Dropout is that of the softmax.
[[nodiscard]] torch::Tensor attention(const torch::Tensor& queries, const torch::Tensor& keys,
                                      const torch::Tensor& values, const torch::Tensor& mask,
                                      double dropout, const AttentionScores& scores);

/// Which tokens each of T tokens looks at, [T, T]: the last `window` up to itself.
[[nodiscard]] torch::Tensor window_mask(std::int64_t tokens, std::int64_t window,
                                        const torch::Device& device);

/// Places of tokens that are not simply those of their row: behind those that are kept, or in their
/// documents; undefined where there is neither (both are null).
[[nodiscard]] torch::Tensor places_of(const KeyValueCache::Part* kept, const Documents* documents);

/// attend(queries, keys, values), the attention of a row by itself: of every document by itself, or
/// of the row, whose keys and values are kept; what comes behind it looks at what is kept. One of
/// `kept` and `documents` is null, or both are.
template <class Attend>
torch::Tensor attended(const KeyValueCache::Part* kept, const Documents* documents,
                       const torch::Tensor& queries, const torch::Tensor& keys,
                       const torch::Tensor& values, Attend attend, std::int64_t window = 0,
                       const AttentionScores& scores = {}) {
  if (documents != nullptr) return by_documents(*documents, queries, keys, values, attend);
  if (kept != nullptr && !kept->is_first()) {
    return attend_to_kept(*kept, queries, keys, values, window, scores);
  }
  if (kept != nullptr) kept->extend(keys, values);
  return attend(queries, keys, values);
}

}  // namespace strata::models
