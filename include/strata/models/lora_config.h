#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace strata::models {

/// Low-rank adapters of linear layers (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language
/// Models"): y = W x + (alpha / rank) B A dropout(x). W and all else of the model is frozen; A
/// [rank, in] and B [out, rank] are trained, and are named and stored as PEFT does. No LibTorch.
struct LoraConfig {
  std::int64_t rank = 8;
  double alpha = 8;
  double dropout = 0.0;  ///< of what goes into A
  /// The linear layers that have adapters, by the last parts of their names ("q_proj",
  /// "self_attn.q_proj") or all of it. In with_lora (lora.h), empty: the type's usual ones, as in
  /// PEFT; kAllLinear alone: all.
  std::vector<std::string> targets = {};

  static constexpr std::string_view kAllLinear = "all-linear";

  /// Reads "r=16,alpha=32,dropout=0.05,targets=q_proj+v_proj". Without alpha it is r. Throws
  /// ConfigError, which begins with `where`, for a text without r, a key that is not there or comes
  /// twice, and a value out of range.
  [[nodiscard]] static LoraConfig from_option(std::string_view text, std::string_view where);
  /// Reads an adapter_config.json of PEFT; `where` (its path) begins every message. Throws
  /// ConfigError, naming the key, for what is no LoRA of linear layers alone, and for everything
  /// that changes what is computed and is not there: DoRA, rank-stabilised scales, biases, ranks by
  /// layer, other modules that are stored whole.
  [[nodiscard]] static LoraConfig from_json(std::string_view text, std::string_view where);
  /// The text of an adapter_config.json that PEFT reads, for a base model of this name or path.
  [[nodiscard]] std::string to_json(std::string_view base_model) const;

  /// What B A x is multiplied by.
  [[nodiscard]] double scale() const { return alpha / static_cast<double>(rank); }
  /// Whether the linear layer of this full name ("model.layers.0.self_attn.q_proj") has an adapter.
  [[nodiscard]] bool adapts(std::string_view layer) const;

  bool operator==(const LoraConfig&) const = default;
};

/// Names of an adapter's modules within its layer.
inline constexpr const char* kLoraA = "lora_A";
inline constexpr const char* kLoraB = "lora_B";

/// Whether a parameter of this full name is an adapter's.
[[nodiscard]] bool is_adapter_parameter(std::string_view full_name);

/// The adapter of the layer of this full name, null where it has none.
[[nodiscard]] inline const LoraConfig* adapter_of(const std::optional<LoraConfig>& lora,
                                                  std::string_view layer) {
  return lora && lora->adapts(layer) ? &*lora : nullptr;
}

}  // namespace strata::models
