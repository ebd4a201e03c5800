#pragma once

#include <cstdint>
#include <memory>

#include "strata/models/causal_lm.h"
#include "strata/models/neox_config.h"

/// \file
/// A model of GPT-NeoX's kind as a language model. Names and layouts of the parameters are those of
/// files of GPTJForCausalLM and GPTNeoXForCausalLM; units are said in neox_layout.h.

namespace strata::models {

/// Builds the model in `engine`, as make_causal_lm.
[[nodiscard]] std::unique_ptr<CausalLm> make_neox(const NeoxConfig& config, Engine& engine,
                                                  const ParameterInitializer& initialize,
                                                  ParameterUse use);
/// Builds it in memory.
[[nodiscard]] std::unique_ptr<CausalLm> make_neox(const NeoxConfig& config, Precision precision,
                                                  const ParameterInitializer& initialize);

/// The initialisation that transformers gives these models: matrices and embeddings normal with
/// deviation `initializer_range`, norms 1, biases 0. A parameter's values depend on `seed` and its
/// full name only.
[[nodiscard]] ParameterInitializer random_initializer(const NeoxConfig& config, std::uint64_t seed);

}  // namespace strata::models
