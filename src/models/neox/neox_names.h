#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "strata/formats/safetensors.h"
#include "strata/models/neox_config.h"

namespace strata::models {

/// The names of the units and modules of a type of GPT-NeoX's kind. They are prefixes of the names
/// in files, so a parameter's full name is its name there.
struct NeoxNames {
  const char* prefix;  ///< what all but the head begin with
  const char* embedding;
  const char* blocks;  ///< followed by a block's index
  const char* norm;
  const char* head;
  // In a block:
  const char* first_norm;
  const char* second_norm;  ///< null: there is none
  const char* attention;
  const char* output;  ///< of attention
  const char* mlp_in;
  const char* mlp_out;
};

inline constexpr NeoxNames kGptJNames = {.prefix = "transformer.",
                                         .embedding = "transformer.wte",
                                         .blocks = "transformer.h.",
                                         .norm = "transformer.ln_f",
                                         .head = "lm_head",
                                         .first_norm = "ln_1",
                                         .second_norm = nullptr,
                                         .attention = "attn",
                                         .output = "out_proj",
                                         .mlp_in = "fc_in",
                                         .mlp_out = "fc_out"};

inline constexpr NeoxNames kGptNeoXNames = {.prefix = "gpt_neox.",
                                            .embedding = "gpt_neox.embed_in",
                                            .blocks = "gpt_neox.layers.",
                                            .norm = "gpt_neox.final_layer_norm",
                                            .head = "embed_out",
                                            .first_norm = "input_layernorm",
                                            .second_norm = "post_attention_layernorm",
                                            .attention = "attention",
                                            .output = "dense",
                                            .mlp_in = "dense_h_to_4h",
                                            .mlp_out = "dense_4h_to_h"};

/// GPT-NeoX's one matrix for queries, keys and values; GPT-J's three.
inline constexpr const char* kNeoxFused = "query_key_value";
inline constexpr const char* kGptJQueries = "q_proj";
inline constexpr const char* kGptJKeys = "k_proj";
inline constexpr const char* kGptJValues = "v_proj";

[[nodiscard]] constexpr const NeoxNames& neox_names(const NeoxConfig& config) {
  return config.type == NeoxConfig::Type::kGptJ ? kGptJNames : kGptNeoXNames;
}

[[nodiscard]] inline std::string neox_block_name(const NeoxConfig& config, std::int64_t index) {
  return neox_names(config).blocks + std::to_string(index);
}

/// Whether it is a causal mask or the frequencies of a rotary embedding, which old versions of
/// transformers stored.
[[nodiscard]] bool is_neox_buffer(std::string_view name, const formats::TensorInfo& tensor);

}  // namespace strata::models
