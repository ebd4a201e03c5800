#include "strata/models/llama.h"

#include <cmath>
#include <string_view>

#include "models/decoder.h"
#include "models/llama/llama_modules.h"
#include "models/llama/llama_names.h"
#include "models/llama/llama_shape.h"
#include "models/random_values.h"

namespace strata::models {

using torch::Tensor;

namespace {

/// What a model of Llama's kind is made of (decoder.h).
struct LlamaParts {
  using Config = LlamaConfig;
  using Block = LlamaBlock;
  using Norm = RmsNorm;

  static VocabularyRules rules(const LlamaConfig& config) {
    VocabularyRules rules{.padding_row = config.padding_token.value_or(-1),
                          .soft_cap = config.logit_soft_cap};
    if (config.is_gemma()) rules.scale = std::sqrt(static_cast<double>(config.hidden_size));
    return rules;
  }
  static Norm norm(const LlamaConfig& config, const torch::TensorOptions& options) {
    return rms_norm(config, config.hidden_size, options);
  }
  static Expert expert(const LlamaConfig& config, const torch::TensorOptions& options) {
    return Expert(llama_expert_matrices(config), config.hidden_size, config.expert_width(),
                  options);
  }
  static std::string_view context_key(const LlamaConfig& /*config*/) {
    return "max_position_embeddings";
  }
  static std::int64_t context(const LlamaConfig& config) { return config.max_position_embeddings; }
};

}  // namespace

struct Llama::Impl {
  Decoder<LlamaParts> model;
};

Llama::Llama(const LlamaConfig& config, Engine& engine, const ParameterInitializer& initialize,
             ParameterUse use)
    : impl_(new Impl{{config, engine, initialize, use}}) {}

Llama::Llama(const LlamaConfig& config, Precision precision, const ParameterInitializer& initialize)
    : impl_(new Impl{{config, precision, initialize}}) {}

Llama::Llama(Llama&&) noexcept = default;
Llama& Llama::operator=(Llama&&) noexcept = default;
Llama::~Llama() = default;

Tensor Llama::forward(const Tensor& tokens) { return impl_->model.forward(tokens); }

Tensor Llama::loss(const TokenBatch& batch) { return impl_->model.loss(batch); }

UnitSequence Llama::sequence() const { return impl_->model.sequence(); }

Tensor Llama::next_token_logits(const Tensor& tokens) {
  return impl_->model.next_token_logits(tokens);
}

Tensor Llama::next_token_logits(const Tensor& tokens, const std::vector<std::int64_t>& counts,
                                KeyValueCache& cache) {
  return impl_->model.next_token_logits(tokens, counts, cache);
}

void Llama::train(bool on) { impl_->model.train(on); }

bool Llama::is_training() const { return impl_->model.is_training(); }

void Llama::visit_parameters(const ParameterVisitor& visit) {
  impl_->model.visit_parameters(visit);
}

void Llama::visit_parameter_rows(const ParameterVisitor& visit) {
  impl_->model.visit_parameter_rows(visit);
}

std::vector<Tensor> Llama::parameters() const { return impl_->model.parameters(); }

ModelConfig Llama::model_config() const { return impl_->model.model_config(); }

const LlamaConfig& Llama::config() const { return impl_->model.config(); }

Precision Llama::precision() const { return impl_->model.precision(); }

ParameterInitializer random_initializer(const LlamaConfig& config, std::uint64_t seed) {
  using Kind = InitialValues::Kind;
  const double range = config.initializer_range;
  const Kind norms = config.is_gemma() ? Kind::kZeros : Kind::kOnes;
  return random_values(seed, [range, norms](const std::string& name) -> InitialValues {
    if (name.ends_with(".bias")) return {Kind::kZeros};
    if (name.ends_with("norm.weight")) return {norms};
    return {Kind::kNormal, range};
  });
}

}  // namespace strata::models
