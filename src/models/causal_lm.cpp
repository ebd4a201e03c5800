#include "strata/models/causal_lm.h"

#include <variant>

#include "models/neox/neox.h"
#include "strata/models/gpt2.h"
#include "strata/models/llama.h"
#include "strata/models/model_config.h"

namespace strata::models {

namespace {

/// The model of a config, of the further arguments of make_causal_lm.
template <class... Arguments>
std::unique_ptr<CausalLm> made(const Gpt2Config& config, Arguments&... arguments) {
  return std::make_unique<Gpt2>(config, arguments...);
}
template <class... Arguments>
std::unique_ptr<CausalLm> made(const LlamaConfig& config, Arguments&... arguments) {
  return std::make_unique<Llama>(config, arguments...);
}
template <class... Arguments>
std::unique_ptr<CausalLm> made(const NeoxConfig& config, Arguments&... arguments) {
  return make_neox(config, arguments...);
}

template <class... Arguments>
std::unique_ptr<CausalLm> make(const ModelConfig& config, Arguments&... arguments) {
  return std::visit([&](const auto& family) { return made(family, arguments...); },
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
