#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <cstdint>

#include "models/loss_chunks.h"

/// \file
/// The matrix products of a head whose logits exist of one chunk of rows at a time.

namespace strata::models {

/// Calls `visit(begin, count)` for runs of at most `step` that cover [0, total).
template <class Visit>
void for_each_run(std::int64_t total, std::int64_t step, Visit visit) {
  for (std::int64_t begin = 0; begin < total; begin += step) {
    visit(begin, std::min(step, total - begin));
  }
}

/// Rows of `width` elements that make a block: those in flight between two formats, which fit a
/// last-level cache.
[[nodiscard]] std::int64_t block_rows(std::int64_t width);

/// The products of hidden [N, d] and a head's weight [V, d], a chunk of rows at a time. fp32 and
/// bf16 have LibTorch's products of their own format; fp16 has fp32 ones, of weights that are
/// converted some at a time. It refers to both operands.
class HeadProducts {
 public:
  /// `rows_max`: most rows of a chunk.
  HeadProducts(const torch::Tensor& hidden, const torch::Tensor& weight, std::int64_t rows_max);

  /// The shape of a loss with these operands.
  [[nodiscard]] static LossShape shape_of(const torch::Tensor& hidden, const torch::Tensor& weight);

  [[nodiscard]] torch::ScalarType format() const { return format_; }
  /// Rows of a chunk: chunks are of equal size, as a short last one would be as dear as a whole.
  [[nodiscard]] std::int64_t chunk_rows() const { return chunk_rows_; }

  /// Room for the logits of a chunk.
  [[nodiscard]] torch::Tensor room_for_logits() const;
  /// Room for the gradient of `hidden`.
  [[nodiscard]] torch::Tensor room_for_hidden() const;
  /// Room for the gradient of the weight: of several chunks of narrow numbers in fp32.
  [[nodiscard]] torch::Tensor room_for_weight() const;

  /// Calls `visit(begin, x, logits)` for every chunk: its rows of `hidden`, in the products'
  /// format, and their logits, in `room`.
  template <class Visit>
  void for_each_chunk(const torch::Tensor& room, Visit visit) const {
    for_each_run(hidden_.size(0), chunk_rows_, [&](std::int64_t begin, std::int64_t count) {
      const torch::Tensor x = hidden_.narrow(0, begin, count).to(format_);
      const torch::Tensor logits = room.narrow(0, 0, count);
      make_logits(logits, x);
      visit(begin, x, logits);
    });
  }

  /// of_hidden = g weight.
  void make_gradient_of_hidden(torch::Tensor of_hidden, const torch::Tensor& g) const;
  /// sum = g^T x for the first chunk, and += for those after it.
  void add_gradient_of_weight(torch::Tensor sum, const torch::Tensor& g, const torch::Tensor& x,
                              bool is_first) const;

 private:
  template <class Visit>
  void for_weight_rows(Visit visit) const;
  void make_logits(torch::Tensor logits, const torch::Tensor& x) const;

  const torch::Tensor &hidden_, &weight_;
  const torch::ScalarType format_;
  std::int64_t chunks_, chunk_rows_;
};

}  // namespace strata::models
