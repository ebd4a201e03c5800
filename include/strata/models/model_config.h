#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "strata/models/gpt2_config.h"
#include "strata/models/llama_config.h"
#include "strata/models/neox_config.h"

namespace strata::models {

/// The config of a model of any family that is there: what its config.json says. A value. No
/// LibTorch.
class ModelConfig {
 public:
  using Family = std::variant<Gpt2Config, LlamaConfig, NeoxConfig>;

  /// GPT-2's smallest one.
  ModelConfig() = default;
  ModelConfig(Gpt2Config config) : family_(config) {}  // NOLINT(google-explicit-constructor)
  ModelConfig(LlamaConfig config)                      // NOLINT(google-explicit-constructor)
      : family_(std::move(config)) {}
  ModelConfig(NeoxConfig config) : family_(config) {}  // NOLINT(google-explicit-constructor)

  /// Reads the text of a config.json; its "model_type" says the family. `where` (its path) begins
  /// every message. Of a larger model, whose type is not there, the language model's config is read
  /// that it has under "text_config". Throws ConfigError for text that is not JSON, a model type
  /// that is not there, with the list of those that are, and what the family's own config refuses.
  [[nodiscard]] static ModelConfig from_json(std::string_view text, std::string_view where);
  /// Whether that config.json is of a larger model. Throws ConfigError for text that is not JSON.
  [[nodiscard]] static bool is_of_larger_model(std::string_view text, std::string_view where);
  /// The values of "model_type" that from_json takes.
  [[nodiscard]] static std::vector<std::string_view> model_types();

  /// The text of a config.json that `AutoModelForCausalLM.from_pretrained` loads. `dtype` is the
  /// saved weights' ("float32", "bfloat16", "float16"). `original` is the text of the config.json
  /// that the model came with, if it came with one: its keys stay as they are, in their order,
  /// except for those that now have another value; that of a larger model stays one. Throws
  /// ConfigError when it is no JSON object.
  [[nodiscard]] std::string to_json(std::string_view dtype, std::string_view original = {}) const;

  /// Throws ConfigError, naming the key, for sizes that make no model.
  void validate(std::string_view where) const;

  [[nodiscard]] std::int64_t vocab_size() const;
  [[nodiscard]] std::int64_t context() const;  ///< the longest sequence
  [[nodiscard]] std::int64_t width() const;
  [[nodiscard]] std::int64_t layers() const;   ///< blocks
  [[nodiscard]] bool ties_embeddings() const;  ///< the output head is the token embedding

  /// The same with a head of its own.
  [[nodiscard]] ModelConfig with_own_head() const;
  /// The same with so many blocks.
  [[nodiscard]] ModelConfig with_layers(std::int64_t count) const;
  /// The same with about half of the heads, and as much less width; nullopt: it has one head.
  [[nodiscard]] std::optional<ModelConfig> narrower() const;

  /// The config of its family.
  [[nodiscard]] const Family& family() const { return family_; }
  /// It as that of this family. Throws UsageError where it is another's.
  template <class Config>
  [[nodiscard]] const Config& as() const {
    if (const auto* config = std::get_if<Config>(&family_)) return *config;
    fail_as();
  }

  bool operator==(const ModelConfig&) const = default;

 private:
  [[noreturn]] static void fail_as();

  Family family_;
};

}  // namespace strata::models
