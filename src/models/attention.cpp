#include "models/attention.h"

#include <cmath>
#include <limits>
#include <optional>

namespace strata::models {

using torch::Tensor;

namespace {

/// Holds all scores: LibTorch's own attention caps none. They are in fp32, and weights are rounded
/// to the values' format.
Tensor capped_attention(const Tensor& queries, const Tensor& keys, const Tensor& values,
                        const Tensor& mask, double dropout, double scale, double cap) {
  const Tensor products = torch::matmul(queries, keys.transpose(-2, -1)).to(torch::kFloat32);
  const Tensor scores = torch::tanh(products * (scale / cap)) * cap;
  const Tensor hidden =
      scores.masked_fill(mask.logical_not(), -std::numeric_limits<float>::infinity());
  const Tensor weights = torch::softmax(hidden, -1).to(values.scalar_type());
  return torch::matmul(dropout > 0.0 ? torch::dropout(weights, dropout, /*train=*/true) : weights,
                       values);
}

}  // namespace

Tensor attention(const Tensor& queries, const Tensor& keys, const Tensor& values,
                 const Tensor& mask, double dropout, const AttentionScores& scores) {
  const bool has_mask = mask.defined();
  if (!scores.soft_cap) {
    return at::scaled_dot_product_attention(
        queries, keys, values, has_mask ? std::make_optional(mask) : std::nullopt, dropout,
        /*is_causal=*/!has_mask, scores.scale);
  }
  const std::int64_t tokens = queries.size(-2);
  return capped_attention(
      queries, keys, values, has_mask ? mask : window_mask(tokens, tokens, queries.device()),
      dropout, scores.scale.value_or(1.0 / std::sqrt(static_cast<double>(queries.size(-1)))),
      *scores.soft_cap);
}

Tensor places_of(const KeyValueCache::Part* kept, const Documents* documents) {
  if (kept != nullptr) return kept->places();
  return documents != nullptr ? documents->positions : Tensor();
}

Tensor window_mask(std::int64_t tokens, std::int64_t window, const torch::Device& device) {
  return torch::ones({tokens, tokens}, torch::dtype(torch::kBool).device(device))
      .tril_()
      .triu_(1 - window);
}

}  // namespace strata::models
