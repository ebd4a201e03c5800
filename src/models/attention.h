#pragma once

#include <torch/torch.h>

#include "strata/models/attention_scores.h"

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

}  // namespace strata::models
