#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "strata/models/generate.h"

namespace strata::models {

/// Chooses token number `token` of prompt number `prompt` by its logits [vocab_size]. Throws
/// DataError where one of them is NaN.
[[nodiscard]] std::int64_t choose_token(const torch::Tensor& logits, const SamplingOptions& options,
                                        std::uint64_t prompt, std::uint64_t token);

}  // namespace strata::models
