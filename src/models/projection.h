#pragma once

#include <torch/torch.h>

#include <cstdint>

namespace strata::models {

/// A linear layer whose weight is [out, in], with or without bias.
class ProjectionImpl : public torch::nn::Module {
 public:
  ProjectionImpl(std::int64_t in, std::int64_t out, bool has_bias,
                 const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::Tensor weight_, bias_;
};
TORCH_MODULE(Projection);

}  // namespace strata::models
