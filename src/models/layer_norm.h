#pragma once

#include <torch/torch.h>

#include <cstdint>

namespace strata::models {

/// Layer normalisation over the last dimension.
class LayerNormImpl : public torch::nn::Module {
 public:
  LayerNormImpl(std::int64_t width, double epsilon, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  double epsilon_;
  torch::Tensor weight_, bias_;
};
TORCH_MODULE(LayerNorm);

}  // namespace strata::models
