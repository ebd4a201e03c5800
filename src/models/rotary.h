#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <utility>

#include "strata/models/rope_config.h"

namespace strata::models {

/// The angles of rotary positions, with transformers' arithmetic: fp32, in its order.
class Rotary {
 public:
  /// `width`: elements of a head that rotate.
  Rotary(const RopeConfig& config, std::int64_t width);

  /// The cosines and the sines, [T, rotary width], of T tokens, in the options' format and on their
  /// device.
  [[nodiscard]] std::pair<torch::Tensor, torch::Tensor> of(
      std::int64_t tokens, const torch::TensorOptions& options) const;
  /// Those of tokens at places [B, T]: [B, 1, T, rotary width].
  [[nodiscard]] std::pair<torch::Tensor, torch::Tensor> at(
      const torch::Tensor& places, const torch::TensorOptions& options) const;

 private:
  /// Of positions [..., T, 1] in fp32.
  [[nodiscard]] std::pair<torch::Tensor, torch::Tensor> of_positions(
      const torch::Tensor& positions, const torch::TensorOptions& options) const;

  torch::Tensor frequencies_;  ///< [rotary width / 2], angles from one token to the next
  double scaling_ = 1.0;       ///< of cosines and sines
};

/// x [..., T, width], rotated: of as many elements as there are cosines, the first half against the
/// second half. The others stay. The product is rounded to the format of x, which cosines in fp32
/// need not have.
[[nodiscard]] torch::Tensor rotated(const torch::Tensor& x, const torch::Tensor& cosines,
                                    const torch::Tensor& sines);

/// The same with the first element of each pair of neighbours against the second.
[[nodiscard]] torch::Tensor rotated_in_pairs(const torch::Tensor& x, const torch::Tensor& cosines,
                                             const torch::Tensor& sines);

}  // namespace strata::models
