#include "strata/models/causal_lm.h"

#include <variant>

#include "strata/models/gpt2.h"
#include "strata/models/llama.h"
#include "strata/models/model_config.h"

namespace strata::models {

namespace {

/// `home` is the Engine or, in memory, the Precision.
template <class Home>
class Maker {
 public:
  Maker(Home& home, const ParameterInitializer& initialize)
      : home_(home), initialize_(initialize) {}

  std::unique_ptr<CausalLm> operator()(const Gpt2Config& config) const {
    return std::make_unique<Gpt2>(config, home_, initialize_);
  }
  std::unique_ptr<CausalLm> operator()(const LlamaConfig& config) const {
    return std::make_unique<Llama>(config, home_, initialize_);
  }

 private:
  Home& home_;
  const ParameterInitializer& initialize_;
};

}  // namespace

std::unique_ptr<CausalLm> make_causal_lm(const ModelConfig& config, Engine& engine,
                                         const ParameterInitializer& initialize) {
  return std::visit(Maker<Engine>(engine, initialize), config.family());
}

std::unique_ptr<CausalLm> make_causal_lm(const ModelConfig& config, Precision precision,
                                         const ParameterInitializer& initialize) {
  return std::visit(Maker<Precision>(precision, initialize), config.family());
}

ParameterInitializer random_initializer(const ModelConfig& config, std::uint64_t seed) {
  return std::visit([seed](const auto& family) { return random_initializer(family, seed); },
                    config.family());
}

}  // namespace strata::models
