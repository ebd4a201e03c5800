#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "strata/models/key_value_cache.h"

namespace strata::models {

/// Tokens that go through a unit at a time: what a block makes between its layers is some ten times
/// as wide as what it hands on.
inline constexpr std::int64_t kKeptTokensAtATime = 4096;

[[nodiscard]] inline torch::Tensor joined(const std::vector<torch::Tensor>& parts) {
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}
/// Of parts that have several tensors each.
[[nodiscard]] inline std::vector<torch::Tensor> joined(
    const std::vector<std::vector<torch::Tensor>>& parts) {
  std::vector<torch::Tensor> all;
  for (std::size_t i = 0; i < parts.front().size(); ++i) {
    std::vector<torch::Tensor> of_one;
    for (const std::vector<torch::Tensor>& part : parts) of_one.push_back(part[i]);
    all.push_back(joined(of_one));
  }
  return all;
}

/// function(rows of x, the cache's part of them) for x [rows, T, ...], some rows at a time.
template <class Function>
auto by_kept_rows(const torch::Tensor& x, KeyValueCache& cache, std::int64_t layer,
                  Function function) {
  const std::int64_t step = std::max<std::int64_t>(kKeptTokensAtATime / x.size(1), 1);
  std::vector<std::invoke_result_t<Function, const torch::Tensor&, const KeyValueCache::Part&>>
      parts;
  for (std::int64_t first = 0; first < x.size(0); first += step) {
    const std::int64_t rows = std::min(step, x.size(0) - first);
    parts.push_back(function(
        x.narrow(0, first, rows),
        KeyValueCache::Part{.cache = cache, .layer = layer, .first_row = first, .rows = rows}));
  }
  return joined(parts);
}

/// Of x [rows, T, width] the last token that each row counts: [rows, width].
inline torch::Tensor last_of_rows(const torch::Tensor& x, const KeyValueCache& cache) {
  const torch::Tensor index = cache.last().to(x.device()).view({-1, 1, 1});
  return x.gather(1, index.expand({x.size(0), 1, x.size(2)})).squeeze(1);
}

}  // namespace strata::models
