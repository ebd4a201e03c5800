#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/models/lora_config.h"
#include "strata/models/rope_config.h"

namespace strata::models {

/// The shape of a model of GPT-NeoX's kind, whose attention and MLP may take the same input side by
/// side: what a Hugging Face config.json of `model_type` "gptj" or "gpt_neox" says, with the
/// defaults that transformers has for that type. No LibTorch.
struct NeoxConfig {
  enum class Type { kGptJ, kGptNeoX };
  enum class Activation { kGelu, kGeluTanh };

  Type type = Type::kGptNeoX;
  std::int64_t vocab_size = 50432;
  std::int64_t hidden_size = 6144;              ///< width; GPT-J's n_embd
  std::int64_t intermediate_size = 24576;       ///< width inside the MLP; GPT-J's n_inner
  std::int64_t num_hidden_layers = 44;          ///< blocks; GPT-J's n_layer
  std::int64_t num_attention_heads = 64;        ///< divides hidden_size; GPT-J's n_head
  std::int64_t max_position_embeddings = 2048;  ///< context; GPT-J's n_positions
  double layer_norm_eps = 1e-5;
  double initializer_range = 0.02;
  double attention_dropout = 0.0;
  bool tie_word_embeddings = false;  ///< the output head is the token embedding; never GPT-J's
  Activation activation = Activation::kGelu;
  /// x + attention(norm(x)) + mlp(norm(x)) and not one after the other; GPT-J's, with one norm.
  bool parallel_residual = true;
  bool attention_bias = true;              ///< of all projections of attention; never GPT-J's
  RopeConfig rope{.share = 0.25};          ///< GPT-NeoX's
  std::optional<std::int64_t> rotary_dim;  ///< GPT-J's: elements of a head that rotate, in pairs
  /// Adapters, beside which all is frozen (with_lora in lora.h); no part of a config.json.
  std::optional<LoraConfig> lora;

  /// Reads the text of a config.json; `where` (its path) begins every message. Keys that do not
  /// change what the model computes are skipped. Throws ConfigError, naming the key, as
  /// LlamaConfig::from_json does; dropout of anything but attention is refused.
  [[nodiscard]] static NeoxConfig from_json(std::string_view text, std::string_view where);
  /// The values of "model_type" that from_json takes.
  [[nodiscard]] static std::vector<std::string_view> model_types();

  /// The text of a config.json that `AutoModelForCausalLM.from_pretrained` loads; see ModelConfig.
  /// Throws ConfigError when `original` is the config of another model.
  [[nodiscard]] std::string to_json(std::string_view dtype, std::string_view original = {}) const;

  /// Throws ConfigError, naming the key, for sizes that make no model. Called by everything that
  /// builds one.
  void validate(std::string_view where = "the model's config") const;

  [[nodiscard]] std::string_view model_type() const;
  [[nodiscard]] bool is_gptj() const { return type == Type::kGptJ; }
  [[nodiscard]] std::int64_t head_width() const { return hidden_size / num_attention_heads; }
  /// Elements of a head that rotate, the first ones.
  [[nodiscard]] std::int64_t rotary_width() const {
    return rotary_dim.value_or(rope.rotary_width(head_width()));
  }

  bool operator==(const NeoxConfig&) const = default;
};

}  // namespace strata::models
