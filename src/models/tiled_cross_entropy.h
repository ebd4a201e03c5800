#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "strata/zero3/row_tiles.h"

/// \file
/// The mean cross entropy over a vocabulary whose head is cut into tiles. No tile knows what the
/// others' logits sum up to, so each is gone through twice: forward takes of it two numbers for a
/// row, and backward makes its logits again.
///
///     loss = mean(log sum_t exp(l_t) - target logit),  l_t = log-sum-exp of tile t's logits
///     g_t  = exp(logits_t - l_t) * dl_t + one_hot * d(target logit)
///
/// With dl_t = exp(l_t - l) / divisor this is the softmax over all tiles: g of
/// linear_cross_entropy, but for fp32 roundings. Logits exist of one tile and one chunk of rows;
/// the gradient of a tile's weight is of that tile alone.

namespace strata::models {

/// What tile `tile` says of every row, [2, N] in fp32: the logarithm of the sum of its logits'
/// exponentials, and the target's logit, or 0 where that is in another tile. hidden [N, d] and the
/// tile's rows of the head's weight are of one floating format, targets [N] int64, of the whole
/// vocabulary; LibTorch refuses one beyond it. Rows whose target is kNoTarget are left out, but for
/// the first one where all are such.
///
/// Formats of products and sums are those of linear_cross_entropy; g is rounded to the products'
/// format once. The graph keeps the operands and a number for each row. `chunk_rows` and
/// `soft_cap`: as there.
/// Throws UsageError for other shapes and formats, and for a gradient of a gradient.
[[nodiscard]] torch::Tensor tile_statistics(const torch::Tensor& hidden,
                                            const torch::Tensor& weight_rows,
                                            const torch::Tensor& targets, const RowTiles& tiles,
                                            std::int64_t tile,
                                            std::optional<std::int64_t> chunk_rows = std::nullopt,
                                            std::optional<double> soft_cap = std::nullopt);

/// The loss, an fp32 scalar, from the statistics of all tiles: the sum of the rows' over `divisor`,
/// which is loss_divisor (loss_rows.h) of the targets, by default the number of rows. Row losses
/// are added in double, in order.
[[nodiscard]] torch::Tensor loss_of_tiles(const std::vector<torch::Tensor>& statistics,
                                          std::optional<double> divisor = std::nullopt);

}  // namespace strata::models
