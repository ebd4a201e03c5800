#pragma once

#include "strata/models/neox_config.h"

namespace strata::models {

/// A model of GPT-NeoX's kind that is done in milliseconds: 4 of a head's 10 elements rotate.
inline NeoxConfig small_neox() {
  NeoxConfig config;
  config.vocab_size = 37;
  config.hidden_size = 20;
  config.intermediate_size = 28;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 2;
  config.max_position_embeddings = 24;
  config.initializer_range = 0.1;
  config.rope.share = 0.45;
  return config;
}

inline NeoxConfig small_gptj() {
  NeoxConfig config = small_neox();
  config.type = NeoxConfig::Type::kGptJ;
  config.activation = NeoxConfig::Activation::kGeluTanh;
  config.attention_bias = false;
  config.rope = {};
  config.rotary_dim = 4;
  return config;
}

}  // namespace strata::models
