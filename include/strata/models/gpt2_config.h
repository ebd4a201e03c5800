#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace strata::models {

/// The shape of a GPT-2 model: what a Hugging Face config.json of `model_type` "gpt2" says, with
/// the defaults that transformers' GPT2Config has. No LibTorch.
struct Gpt2Config {
  /// The function between the two matrices of the MLP. kGeluTanh is GPT-2's own ("gelu_new").
  enum class Activation { kGeluTanh, kGelu };

  std::int64_t vocab_size = 50257;
  std::int64_t n_positions = 1024;      ///< context: the longest sequence
  std::int64_t n_embd = 768;            ///< width
  std::int64_t n_layer = 12;            ///< blocks
  std::int64_t n_head = 12;             ///< divides n_embd
  std::optional<std::int64_t> n_inner;  ///< width inside the MLP; nullopt: 4 * n_embd
  Activation activation = Activation::kGeluTanh;
  double resid_pdrop = 0.1;
  double embd_pdrop = 0.1;
  double attn_pdrop = 0.1;
  double layer_norm_epsilon = 1e-5;
  double initializer_range = 0.02;
  bool tie_word_embeddings = true;  ///< the output head is the token embedding
  std::optional<std::int64_t> bos_token_id;
  std::optional<std::int64_t> eos_token_id;

  /// Reads the text of a config.json; `where` (its path) begins every message. Keys that do not
  /// change what the model computes are skipped, whatever they hold (`to_json` keeps them). Throws
  /// ConfigError, naming the key, for text that is not JSON, another model_type, a wrong type, a
  /// value out of range, two names of one key that disagree, and a feature of GPT-2 configs that is
  /// not supported here (scale_attn_by_inverse_layer_idx, add_cross_attention, is_causal false,
  /// pruned_heads, quantization_config, another activation, ...).
  [[nodiscard]] static Gpt2Config from_json(std::string_view text, std::string_view where);

  /// A model by name. "gpt-lite": 12 layers, width 768, context 256, bytes as tokens;
  /// "nanogpt-cpu": 4 layers, width 128, context 64, no dropout, 65 characters; "gpt2",
  /// "gpt2-medium", "gpt2-large", "gpt2-xl": the published ones. Throws ConfigError, listing the
  /// names, for any other.
  [[nodiscard]] static Gpt2Config preset(std::string_view name);
  [[nodiscard]] static std::vector<std::string_view> preset_names();

  /// The text of a config.json that `AutoModelForCausalLM.from_pretrained` loads. `dtype` is the
  /// saved weights' ("float32", "bfloat16", "float16"). `original` is the text of the config.json
  /// that the model came with, if it came with one: its keys stay as they are, in their order,
  /// except for those that now have another value. Throws ConfigError when it is no JSON object.
  [[nodiscard]] std::string to_json(std::string_view dtype, std::string_view original = {}) const;

  /// Throws ConfigError, naming the key, for sizes that make no model. Called by everything that
  /// builds one.
  void validate(std::string_view where = "GPT-2 config") const;

  [[nodiscard]] std::int64_t head_dim() const { return n_embd / n_head; }
  [[nodiscard]] std::int64_t inner() const { return n_inner.value_or(4 * n_embd); }

  bool operator==(const Gpt2Config&) const = default;
};

}  // namespace strata::models
