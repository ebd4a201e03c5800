#pragma once

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/model_part.h"
#include "models/projection.h"

namespace strata::models {

/// One expert: down(silu(gate(x)) * up(x)), without biases. Its matrices have the names of files.
class ExpertImpl : public torch::nn::Module {
 public:
  /// `names` are those of gate, up and down.
  ExpertImpl(const std::array<std::string, 3>& names, std::int64_t width, std::int64_t inner,
             const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  Projection gate_, up_, down_;
};
TORCH_MODULE(Expert);

/// What a block hands to its experts, of tokens [B, T].
struct Routed {
  torch::Tensor residual;  ///< [B, T, width]: what experts give is added to it
  torch::Tensor normed;    ///< [B, T, width]: what goes into them
  torch::Tensor weights;   ///< [B, T, k]: of what a token's experts give
  torch::Tensor chosen;    ///< [B, T, k] int64: its experts

  /// As a unit returns it.
  [[nodiscard]] std::vector<torch::Tensor> tensors() const {
    return {residual, normed, weights, chosen};
  }
  [[nodiscard]] static Routed of(const std::vector<torch::Tensor>& tensors) {
    return {tensors.at(0), tensors.at(1), tensors.at(2), tensors.at(3)};
  }
};

/// The experts of a block (Shazeer et al. 2017, "Outrageously Large Neural Networks: The
/// Sparsely-Gated Mixture-of-Experts Layer"), each a unit of an engine, or all in memory. Those
/// that no token has chosen are not entered: nothing of them is read, and they have no gradient.
/// With several ranks all enter those that any has chosen. A copy names the same experts.
class ExpertUnits {
 public:
  ExpertUnits(std::vector<ModelPart<Expert>> units, bool in_engine)
      : units_(std::make_shared<std::vector<ModelPart<Expert>>>(std::move(units))),
        in_engine_(in_engine) {}

  /// residual + the weighted sum of what each token's experts give, [B, T, width]. `counted`
  /// (bool [B, T]) leaves out the tokens that have no meaning; undefined: all have one.
  [[nodiscard]] torch::Tensor run(const Routed& routed, const torch::Tensor& counted = {}) const;

  /// The same of several batches at once: each expert is entered once.
  [[nodiscard]] std::vector<torch::Tensor> run(const std::vector<Routed>& batches) const;

  [[nodiscard]] std::vector<ModelPart<Expert>>& units() const { return *units_; }

 private:
  std::shared_ptr<std::vector<ModelPart<Expert>>> units_;
  bool in_engine_;
};

}  // namespace strata::models
