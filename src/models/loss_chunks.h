#pragma once

#include <cstdint>

/// \file
/// How many rows of logits a loss over a vocabulary holds at one time. No LibTorch.

namespace strata::models {

/// A linear_cross_entropy: `rows` of `width` elements against a head [vocab_size, width], with
/// products whose elements have `number_bytes`.
struct LossShape {
  std::int64_t rows, vocab_size, width, number_bytes;

  /// Whether sums of products are kept in a wider format, fp32, than the products.
  [[nodiscard]] bool has_narrow_numbers() const noexcept { return number_bytes < 4; }
};

/// The most rows whose logits are held at one time: 512, which give efficient products, or as many
/// as fit into 16 MiB. All rows where their logits take no more than the fp32 sum of the head's
/// gradient, which several chunks need where numbers are narrow.
[[nodiscard]] std::int64_t loss_chunk_rows(const LossShape& shape);

/// The most bytes that the loss holds beside its operands and their gradients.
[[nodiscard]] std::int64_t loss_bytes(const LossShape& shape);

}  // namespace strata::models
