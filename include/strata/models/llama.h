#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/models/causal_lm.h"
#include "strata/models/llama_config.h"
#include "strata/models/llama_layout.h"
#include "strata/zero3/engine.h"

namespace strata::models {

/// A model of Llama's kind (Llama, Mistral, Qwen, SmolLM3, OLMo 2, Phi-3, Gemma, Mixtral) as a
/// language model, in an engine or in memory (see CausalLm): RMSNorm, rotary positions, grouped
/// queries and a gated MLP, or experts in its place; what differs from type to type is said by the
/// config.
///
/// Names and layouts of the parameters are those of the type's class in transformers. Units, in the
/// order of forward: the token embedding "model.embed_tokens", which a tied head is too, every
/// block "model.layers.N", behind it each of its experts where it has some, the last norm
/// "model.norm", and an untied head "lm_head".
///
/// A vocabulary that is too large for the device budget is cut into tiles (tiles_of in
/// llama_layout.h), units that are entered one after the other, "tile_N.model.embed_tokens" and
/// "tile_N.lm_head"; the loss goes through the head tile by tile. The files and the numbers are
/// those of the whole, but for roundings (tiled.h).
class Llama final : public CausalLm {
 public:
  /// Builds the model in `engine`, as make_causal_lm.
  Llama(const LlamaConfig& config, Engine& engine, const ParameterInitializer& initialize,
        ParameterUse use = ParameterUse::kTrained);

  /// Builds the model in memory, as make_causal_lm.
  Llama(const LlamaConfig& config, Precision precision, const ParameterInitializer& initialize);

  Llama(Llama&&) noexcept;
  Llama& operator=(Llama&&) noexcept;
  ~Llama() override;

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

  [[nodiscard]] const LlamaConfig& config() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The initialisation that transformers gives these models: matrices and embeddings normal with
/// deviation `initializer_range`, norms 1 (Gemma's, which multiply by 1 + weight, 0), biases 0. A
/// parameter's values depend on `seed` and its full name only.
[[nodiscard]] ParameterInitializer random_initializer(const LlamaConfig& config,
                                                      std::uint64_t seed);

}  // namespace strata::models
