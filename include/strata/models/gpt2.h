#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/models/causal_lm.h"
#include "strata/models/gpt2_config.h"
#include "strata/models/gpt2_layout.h"
#include "strata/zero3/engine.h"

namespace strata::models {

/// GPT-2 as a language model, in an engine or in memory (see CausalLm).
///
///     auto config = models::Gpt2Config::preset("gpt-lite");
///     models::Gpt2 model(config, engine, models::random_initializer(config, /*seed=*/1));
///     engine.backward(model.loss(tokens, targets));
///
/// Names and layouts of the parameters are those of transformers' GPT2LMHeadModel (matrices are
/// [in, out], as its Conv1D stores them). Units: every block is one, "transformer.h.N"; what is
/// outside of the blocks (embeddings, last layer norm, an untied head) is one, "transformer", which
/// a forward enters at its start and at its end.
///
/// What is too large for the device budget is cut into tiles (tiles_of in gpt2_layout.h), units
/// that are entered one after the other. Of a vocabulary, some rows of the token embedding,
/// "tile_N.transformer", and of an untied head; the loss goes through the head tile by tile. Of a
/// block, some outputs of each of its linear layers, "tile_N.transformer.h.3.mlp.c_fc"; its unit
/// "transformer.h.3" has its norms. Parameters' names and values, the files and the numbers are
/// those of the whole, but for roundings (tiled.h).
class Gpt2 final : public CausalLm {
 public:
  /// Builds the model in `engine`, as make_causal_lm.
  Gpt2(const Gpt2Config& config, Engine& engine, const ParameterInitializer& initialize,
       ParameterUse use = ParameterUse::kTrained);

  /// Builds the model in memory, as make_causal_lm.
  Gpt2(const Gpt2Config& config, Precision precision, const ParameterInitializer& initialize);

  Gpt2(Gpt2&&) noexcept;
  Gpt2& operator=(Gpt2&&) noexcept;
  ~Gpt2() override;

  [[nodiscard]] torch::Tensor forward(const torch::Tensor& tokens) override;
  using CausalLm::loss;
  [[nodiscard]] torch::Tensor loss(const TokenBatch& batch) override;
  [[nodiscard]] UnitSequence sequence() const override;
  [[nodiscard]] torch::Tensor next_token_logits(const torch::Tensor& tokens) override;
  [[nodiscard]] torch::Tensor next_token_logits(const torch::Tensor& tokens,
                                                const std::vector<std::int64_t>& counts,
                                                KeyValueCache& cache) override;
  void train(bool on = true) override;
  [[nodiscard]] bool is_training() const override;
  void visit_parameters(const ParameterVisitor& visit) override;
  void visit_parameter_rows(const ParameterVisitor& visit) override;
  [[nodiscard]] std::vector<torch::Tensor> parameters() const override;
  [[nodiscard]] ModelConfig model_config() const override;
  [[nodiscard]] Precision precision() const override;

  [[nodiscard]] const Gpt2Config& config() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// GPT-2's initialisation: matrices and embeddings normal with deviation `initializer_range`, the
/// projections back into the residual stream smaller by sqrt(2 * n_layer), layer norms 1, biases 0.
/// A parameter's values depend on `seed` and its full name only.
[[nodiscard]] ParameterInitializer random_initializer(const Gpt2Config& config, std::uint64_t seed);

}  // namespace strata::models
