#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/models/lora_config.h"
#include "strata/models/rope_config.h"

namespace strata::models {

/// The shape of a model of Llama's kind: what a Hugging Face config.json says whose `model_type` is
/// one of `model_types()`, with the defaults that transformers has for that type. No LibTorch.
struct LlamaConfig {
  enum class Type {
    kLlama,
    kMistral,
    kQwen2,
    kQwen3,
    kSmolLm3,
    kOlmo2,
    kPhi3,
    kGemma2,
    kGemma3Text,
    kMixtral,
    kQwen3Moe,
  };

  Type type = Type::kLlama;
  std::int64_t vocab_size = 32000;
  std::int64_t hidden_size = 4096;         ///< width
  std::int64_t intermediate_size = 11008;  ///< width inside the MLP
  std::int64_t num_hidden_layers = 32;     ///< blocks
  std::int64_t num_attention_heads = 32;
  std::int64_t num_key_value_heads = 32;        ///< divides num_attention_heads
  std::optional<std::int64_t> head_dim;         ///< nullopt: hidden_size / num_attention_heads
  std::int64_t max_position_embeddings = 2048;  ///< context: the longest sequence
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  double attention_dropout = 0.0;
  bool tie_word_embeddings = false;  ///< the output head is the token embedding
  /// A token whose row of the embedding gets no gradient where it is looked up ("pad_token_id").
  std::optional<std::int64_t> padding_token;
  RopeConfig rope;

  bool qkv_bias = false;     ///< of the projections to queries, keys and values: Qwen2's
  bool output_bias = false;  ///< of the projection of what attention gives
  bool mlp_bias = false;
  /// RMSNorm of queries and keys, before rotation: of every head's (Qwen3, Gemma 3), or of all
  /// heads' together (OLMo 2).
  bool qk_norm = false;
  /// Tokens that a token of a layer that slides looks at, itself included.
  std::optional<std::int64_t> sliding_window;
  std::vector<bool> sliding_layers;  ///< which ones slide; empty: all do, where there is a window
  std::optional<RopeConfig> sliding_rope;  ///< how those rotate, where they do otherwise: Gemma 3's
  std::vector<bool> rotary_layers;         ///< which ones rotate; empty: all do. SmolLM3's do not
  /// Scores are scaled by its power -1/2; nullopt: by that of head_width(). Gemma's.
  std::optional<double> query_scalar;
  /// Scores of attention, and logits, are c tanh(x / c): Gemma 2's.
  std::optional<double> attention_soft_cap, logit_soft_cap;
  /// Experts that a block has in the place of its MLP, each a unit; 0: none do.
  std::int64_t num_experts = 0;
  std::int64_t num_experts_per_tok = 1;               ///< those that a token goes through
  std::optional<std::int64_t> moe_intermediate_size;  ///< nullopt: intermediate_size
  bool norm_topk_prob = true;       ///< the weights of a token's experts add up to 1
  std::vector<bool> expert_layers;  ///< blocks that have experts; empty: all, where there are some
  /// Adapters, beside which all is frozen (with_lora in lora.h); no part of a config.json.
  std::optional<LoraConfig> lora;

  /// Reads the text of a config.json; `where` (its path) begins every message. RoPE is read from
  /// "rope_parameters" or from "rope_theta" and "rope_scaling". Keys that do not change what the
  /// model computes are skipped, whatever they hold (`to_json` keeps them). Throws ConfigError,
  /// naming the key, for text that is not JSON, another model_type, a wrong type, a value out of
  /// range, two keys that disagree, a type of RoPE or a key of one that is not known, and a feature
  /// of other models (shared experts, soft caps, multipliers, another activation, ...) that is
  /// asked for, and a loss of routers beside that of tokens ("output_router_logits").
  [[nodiscard]] static LlamaConfig from_json(std::string_view text, std::string_view where);
  /// The values of "model_type" that from_json takes.
  [[nodiscard]] static std::vector<std::string_view> model_types();

  /// The text of a config.json that `AutoModelForCausalLM.from_pretrained` loads; see ModelConfig.
  /// Throws ConfigError when `original` is the config of another model.
  [[nodiscard]] std::string to_json(std::string_view dtype, std::string_view original = {}) const;

  /// Throws ConfigError, naming the key, for sizes that make no model. Called by everything that
  /// builds one.
  void validate(std::string_view where = "the model's config") const;

  [[nodiscard]] std::string_view model_type() const;

  // What follows from the type alone.
  [[nodiscard]] bool is_gemma() const { return type == Type::kGemma2 || type == Type::kGemma3Text; }
  /// Norms of what goes into attention and MLP, and of what comes out of them.
  [[nodiscard]] bool norms_inputs() const { return type != Type::kOlmo2; }
  [[nodiscard]] bool norms_outputs() const { return type == Type::kOlmo2 || is_gemma(); }
  /// Norms multiply by the weight, or by 1 + weight, in fp32, and round once.
  [[nodiscard]] bool norms_in_fp32() const { return norms_outputs(); }
  /// Cosines and sines are not rounded to the compute format.
  [[nodiscard]] bool rotates_in_fp32() const { return type == Type::kOlmo2; }
  /// qk_norm is over all heads.
  [[nodiscard]] bool norms_all_heads() const { return type == Type::kOlmo2; }
  /// One matrix for queries, keys and values, one for gate and up.
  [[nodiscard]] bool has_fused_projections() const { return type == Type::kPhi3; }

  /// What experts give is weighted in fp32, or in the compute format.
  [[nodiscard]] bool weighs_experts_in_fp32() const { return type == Type::kMixtral; }

  [[nodiscard]] std::int64_t head_width() const {
    return head_dim.value_or(hidden_size / num_attention_heads);
  }
  /// Elements of all heads' queries, and of all heads' keys.
  [[nodiscard]] std::int64_t query_width() const { return num_attention_heads * head_width(); }
  [[nodiscard]] std::int64_t key_width() const { return num_key_value_heads * head_width(); }
  /// The window of a block; nullopt: it looks at all tokens before.
  [[nodiscard]] std::optional<std::int64_t> window_of(std::int64_t layer) const;
  /// Whether a block has experts and a router.
  [[nodiscard]] bool has_experts(std::int64_t layer) const;
  /// Width inside an expert.
  [[nodiscard]] std::int64_t expert_width() const {
    return moe_intermediate_size.value_or(intermediate_size);
  }
  /// How a block's positions rotate; nullopt: they do not.
  [[nodiscard]] std::optional<RopeConfig> rope_of(std::int64_t layer) const;

  bool operator==(const LlamaConfig&) const = default;
};

}  // namespace strata::models
