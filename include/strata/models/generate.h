#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "strata/models/causal_lm.h"

namespace strata::models {

/// How the next token is chosen.
struct SamplingOptions {
  std::int64_t count = 100;  ///< tokens to make
  double temperature = 1.0;  ///< logits are divided by it; 0: always the most likely token
  std::int64_t top_k = 0;    ///< choose among the k most likely; 0: among all
  std::uint64_t seed = 0;    ///< seed of the draws; the default generator is not touched
};

/// Continues `prompt` (at least one token) and returns the new tokens. `on_token`, when given, sees
/// each as it is made. Keeps no keys and values: every token is a forward over the last tokens
/// that the context has room for. Dropout is off meanwhile. Throws UsageError for an empty prompt,
/// a token beyond the vocabulary, or options out of range.
[[nodiscard]] std::vector<std::int64_t> generate(
    CausalLm& model, std::span<const std::int64_t> prompt, const SamplingOptions& options,
    const std::function<void(std::int64_t)>& on_token = {});

}  // namespace strata::models
