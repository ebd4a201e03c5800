#include "models/neox/neox.h"

#include <string>
#include <string_view>

#include "models/decoder.h"
#include "models/neox/neox_modules.h"
#include "models/neox/neox_names.h"
#include "models/neox/neox_shape.h"
#include "models/random_values.h"

namespace strata::models {

namespace {

/// What a model of GPT-NeoX's kind is made of (decoder.h).
struct NeoxParts {
  using Config = NeoxConfig;
  using Block = NeoxBlock;
  using Norm = LayerNorm;

  static VocabularyRules rules(const NeoxConfig& /*config*/) { return {}; }
  static Norm norm(const NeoxConfig& config, const torch::TensorOptions& options) {
    return Norm(config.hidden_size, config.layer_norm_eps, options);
  }
  static std::string_view context_key(const NeoxConfig& config) {
    return config.is_gptj() ? "n_positions" : "max_position_embeddings";
  }
  static std::int64_t context(const NeoxConfig& config) { return config.max_position_embeddings; }
};

}  // namespace

std::unique_ptr<CausalLm> make_neox(const NeoxConfig& config, Engine& engine,
                                    const ParameterInitializer& initialize, ParameterUse use) {
  return std::make_unique<Decoder<NeoxParts>>(config, engine, initialize, use);
}

std::unique_ptr<CausalLm> make_neox(const NeoxConfig& config, Precision precision,
                                    const ParameterInitializer& initialize) {
  return std::make_unique<Decoder<NeoxParts>>(config, precision, initialize);
}

ParameterInitializer random_initializer(const NeoxConfig& config, std::uint64_t seed) {
  using Kind = InitialValues::Kind;
  const double range = config.initializer_range;
  return random_values(seed, [range](const std::string& name) -> InitialValues {
    if (name.ends_with(".bias")) return {Kind::kZeros};
    const bool is_norm = name.ends_with("norm.weight") || name.ends_with("ln_1.weight") ||
                         name.ends_with("ln_f.weight");
    return is_norm ? InitialValues{Kind::kOnes} : InitialValues{Kind::kNormal, range};
  });
}

}  // namespace strata::models
