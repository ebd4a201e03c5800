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

/// One of Gemma's: norms of 1 + weight on both sides, a scaled embedding, and caps that are felt.
inline LlamaConfig small_gemma2() {
  LlamaConfig config = small_llama(LlamaConfig::Type::kGemma2);
  config.query_scalar = 9.0;
  config.attention_soft_cap = 2.0;
  config.logit_soft_cap = 1.5;
  config.sliding_window = 5;
  config.sliding_layers = {true, false, true};
  return config;
}

/// One of OLMo 2's: norms after, and over all heads.
inline LlamaConfig small_olmo2() {
  LlamaConfig config = small_llama(LlamaConfig::Type::kOlmo2);
  config.qk_norm = true;
  return config;
}

/// One of Phi-3's: fused projections, and 4 of a head's 6 elements rotate.
inline LlamaConfig small_phi3() {
  LlamaConfig config = small_llama(LlamaConfig::Type::kPhi3);
  config.rope.share = 0.67;
  return config;
}

/// One of Mixtral's: every block has experts.
inline LlamaConfig small_mixtral() {
  LlamaConfig config = small_llama(LlamaConfig::Type::kMixtral);
  config.num_experts = 5;
  config.num_experts_per_tok = 2;
  return config;
}

/// One of Qwen3-MoE's, of 16 experts, with a block that has none.
inline LlamaConfig small_qwen3_moe() {
  LlamaConfig config = small_llama(LlamaConfig::Type::kQwen3Moe);
  config.qk_norm = true;
  config.num_experts = 16;
  config.num_experts_per_tok = 3;
  config.moe_intermediate_size = 7;
  config.norm_topk_prob = false;
  config.expert_layers = {true, false, true};
  return config;
}

/// One whose layers differ: one does not rotate, and slides.
inline LlamaConfig small_smollm3() {
  LlamaConfig config = small_llama(LlamaConfig::Type::kSmolLm3);
  config.rotary_layers = {true, false, true};
  config.sliding_window = 4;
  config.sliding_layers = {false, true, false};
  return config;
}

}  // namespace strata::models
