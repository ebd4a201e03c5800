#include "strata/models/causal_lm.h"

#include <variant>

#include "strata/models/gpt2.h"
#include "strata/models/llama.h"
#include "strata/models/model_config.h"

namespace strata::models {

namespace {

template <class Config>
struct ModelOf;
template <>
struct ModelOf<Gpt2Config> {
  using Type = Gpt2;
};
template <>
struct ModelOf<LlamaConfig> {
  using Type = Llama;
};

/// Makes the model of a config's family, of the further arguments of its constructors.
template <class... Arguments>
std::unique_ptr<CausalLm> make(const ModelConfig& config, Arguments&... arguments) {
  return std::visit(
      [&]<class Config>(const Config& family) -> std::unique_ptr<CausalLm> {
        return std::make_unique<typename ModelOf<Config>::Type>(family, arguments...);
      },
      config.family());
}

}  // namespace

std::unique_ptr<CausalLm> make_causal_lm(const ModelConfig& config, Engine& engine,
                                         const ParameterInitializer& initialize, ParameterUse use) {
  return make(config, engine, initialize, use);
}

std::unique_ptr<CausalLm> make_causal_lm(const ModelConfig& config, Precision precision,
                                         const ParameterInitializer& initialize) {
  return make(config, precision, initialize);
}

ParameterInitializer random_initializer(const ModelConfig& config, std::uint64_t seed) {
  return std::visit([seed](const auto& family) { return random_initializer(family, seed); },
                    config.family());
}

}  // namespace strata::models
