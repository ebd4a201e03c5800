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

  /// The cosines and the sines of T tokens at places [B, T], [B, 1, T, rotary width]; where these
  /// are undefined, of those from 0 on, [T, rotary width]. In the options' format and on their
  /// device.
  [[nodiscard]] std::pair<torch::Tensor, torch::Tensor> of(
      std::int64_t tokens, const torch::Tensor& places, const torch::TensorOptions& options) const;

 private:
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
