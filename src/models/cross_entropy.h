#pragma once

#include <torch/torch.h>

namespace strata::models {

/// Mean cross entropy (fp32 scalar) of logits [N, V] of any floating format against targets [N]
/// (int64), as torch::cross_entropy gives it on fp32 logits.
///
/// Keeps the logits as they are for backward; fp32 exists of a few rows at a time only, in forward
/// and in backward. Rows are independent and summed in order: the same bits whatever the number of
/// rows taken at a time and the number of threads.
[[nodiscard]] torch::Tensor cross_entropy(const torch::Tensor& logits,
                                          const torch::Tensor& targets);

}  // namespace strata::models
