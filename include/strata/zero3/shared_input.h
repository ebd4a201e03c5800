#pragma once

#include <torch/torch.h>

namespace strata {

/// A tensor that several units take one after the other, the tiles of a layer, say. Its gradient is
/// the sum of theirs in fp32, rounded to its own format once; LibTorch would round after each
/// addition. Memory: an fp32 number for each element while backward runs; `take` copies nothing.
///
///     const SharedInput shared(x);
///     for (auto& tile : tiles) parts.push_back(tile(shared.take()));
///
/// Order of the sum: that in which backward comes through the users, the last one first. What each
/// of them gives is of the input's format, so in 16 bits it has a rounding of its own.
class SharedInput {
 public:
  explicit SharedInput(torch::Tensor x);

  /// The tensor for one more user. The tensor itself where no gradient is wanted.
  [[nodiscard]] torch::Tensor take() const;

 private:
  torch::Tensor x_;
  c10::intrusive_ptr<torch::CustomClassHolder> sum_;  // null where no gradient is wanted
};

}  // namespace strata
