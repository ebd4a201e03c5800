#include "models/loss_chunks.h"

#include <algorithm>

#include "strata/base/units.h"

namespace strata::models {

namespace {

constexpr std::int64_t kEfficientRows = 512;
constexpr std::int64_t kSmallLogits = 16_MiB;

std::int64_t sum_bytes(const LossShape& shape) {
  return shape.has_narrow_numbers() ? shape.vocab_size * shape.width * 4 : 0;
}

}  // namespace

std::int64_t loss_chunk_rows(const LossShape& shape) {
  const std::int64_t row_bytes = shape.vocab_size * shape.number_bytes;
  if (shape.rows * row_bytes <= sum_bytes(shape)) return shape.rows;
  return std::max(kEfficientRows, kSmallLogits / row_bytes);
}

std::int64_t loss_bytes(const LossShape& shape) {
  const std::int64_t rows = std::min(loss_chunk_rows(shape), shape.rows);
  const std::int64_t logits = rows * shape.vocab_size * shape.number_bytes;
  return rows < shape.rows ? logits + sum_bytes(shape) : logits;
}

}  // namespace strata::models
