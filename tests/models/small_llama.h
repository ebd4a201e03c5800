#pragma once

#include "strata/models/llama_config.h"

namespace strata::models {

/// A model of Llama's kind that is done in milliseconds, of extents that are all different.
inline LlamaConfig small_llama(LlamaConfig::Type type = LlamaConfig::Type::kLlama) {
  LlamaConfig config;
  config.type = type;
  config.vocab_size = 37;
  config.hidden_size = 16;
  config.intermediate_size = 20;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 6;
  config.max_position_embeddings = 24;
  config.initializer_range = 0.1;
  return config;
}

/// With every flag that adds a parameter, a window in one layer and a padding token.
inline LlamaConfig small_llama_with_all() {
  LlamaConfig config = small_llama(LlamaConfig::Type::kQwen3);
  config.padding_token = 7;
  config.qkv_bias = config.output_bias = config.qk_norm = true;
  config.sliding_window = 5;
  config.sliding_layers = {false, true, false};
  return config;
}

}  // namespace strata::models
