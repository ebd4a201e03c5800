#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>

namespace strata::models {

/// Mean cross entropy (fp32 scalar) of the logits hidden weight^T against `targets`, as
/// torch::cross_entropy gives it on an fp32 copy of them. hidden [N, d] and weight [V, d] are of
/// one floating format, targets [N] int64 from 0 to V - 1.
///
/// Logits exist of one chunk of rows at a time. Where gradients are wanted forward makes them too,
/// chunk by chunk, so that no product is made twice, and the graph keeps them, not the logits:
///
///     logits = x W^T,  g = (softmax(logits) - one_hot(targets)) / N,  dx = g W,  dW += g^T x
///
/// Only those that are wanted are made (requires_grad, GradMode); backward multiplies them by the
/// gradient from above and releases them, unless the graph is retained.
///
/// Numbers. fp32 and bf16 have LibTorch's products of their own format; fp16, whose range is too
/// small for a g without a loss scale, has fp32 ones, of weights that are converted some at a time.
/// Softmax and losses are fp32, losses are added in double in the order of rows; g is rounded to
/// the products' format once. dW of several chunks is added in fp32 in their order; every chunk's
/// product, in the products' format, differs from the exact one by a rounding of its own size. The
/// last multiplication is in fp32 and rounds once, so that a loss scale lifts what fp16 would lose.
/// The bits of a row's loss and of its g depend on its logits alone. Those of products, of logits
/// and dx too, are what LibTorch gives for the rows of a chunk; chunks follow from shapes and
/// formats.
///
/// `chunk_rows`: most rows at a time, by default loss_chunk_rows() (loss_chunks.h). `soft_cap`:
/// logits are capped (soft_cap.h), in fp32. `bias`: [V] in the operands' format, is added to the
/// logits before, in fp32; its gradient is added up in fp32. `divisor`: that of TokenBatch, by
/// default the number of rows with a target. A row whose target is kNoTarget has no logits, no loss
/// and a gradient of zeros. Throws UsageError for other shapes and
/// formats, for a gradient of a gradient, and for a second backward of a released graph.
[[nodiscard]] torch::Tensor linear_cross_entropy(
    const torch::Tensor& hidden, const torch::Tensor& weight, const torch::Tensor& targets,
    std::optional<std::int64_t> chunk_rows = std::nullopt,
    std::optional<double> soft_cap = std::nullopt, const torch::Tensor& bias = {},
    std::optional<double> divisor = std::nullopt);

}  // namespace strata::models
