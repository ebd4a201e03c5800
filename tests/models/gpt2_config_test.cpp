#include "strata/models/gpt2_config.h"

#include <gmock/gmock.h>

#include "strata/base/error.h"
#include "strata/models/gpt2.h"

namespace strata::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string error_of(const std::string& text) {
  try {
    (void)Gpt2Config::from_json(text, "dir/config.json");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Gpt2Config, ReadsThePublishedConfigOfGpt2) {
  const auto config = Gpt2Config::from_json(R"({
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256,
    "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024,
    "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
    "summary_activation": null, "summary_first_dropout": 0.1, "summary_type": "cls_index",
    "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}},
    "vocab_size": 50257})",
                                            "config.json");
  EXPECT_EQ(config, Gpt2Config::preset("gpt2"));
  EXPECT_EQ(parameter_count(config), 124'439'808u);
}

TEST(Gpt2Config, ComesBackUnchangedFromItsOwnJson) {
  for (const std::string_view name : Gpt2Config::preset_names()) {
    Gpt2Config config = Gpt2Config::preset(name);
    config.n_inner = 3 * config.n_embd;
    config.activation = Gpt2Config::Activation::kGelu;
    config.tie_word_embeddings = false;
    EXPECT_EQ(Gpt2Config::from_json(config.to_json("float32"), "config.json"), config) << name;
  }
}

TEST(Gpt2Config, TakesTheOtherNamesThatTransformersTakes) {
  const auto config = Gpt2Config::from_json(
      R"({"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 3,
          "num_attention_heads": 4, "max_position_embeddings": 32})",
      "config.json");
  EXPECT_EQ(config.n_embd, 64);
  EXPECT_EQ(config.n_layer, 3);
  EXPECT_EQ(config.n_head, 4);
  EXPECT_EQ(config.n_positions, 32);
  EXPECT_EQ(Gpt2Config::from_json(R"({"model_type": "gpt2", "n_ctx": 48})", "").n_positions, 48);
}

TEST(Gpt2Config, NamesTheFileAndTheKeyOfWhatItCannotUse) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"model_type": "llama"})", "model_type"},
      {R"({"n_embd": 768})", "model_type"},
      {R"({"model_type": "gpt2", "n_embd": "768"})", "n_embd"},
      {R"({"model_type": "gpt2", "n_embd": 76.5})", "n_embd"},
      {R"({"model_type": "gpt2", "n_embd": 770})", "n_embd"},
      {R"({"model_type": "gpt2", "n_layer": 0})", "n_layer"},
      {R"({"model_type": "gpt2", "n_layer": -12})", "n_layer"},
      {R"({"model_type": "gpt2", "n_layer": 99999999999})", "n_layer"},
      {R"({"model_type": "gpt2", "n_embd": 4611686018427387904, "n_head": 1})", "n_embd"},
      {R"({"model_type": "gpt2", "vocab_size": 18446744073709551615})", "vocab_size"},
      {R"({"model_type": "gpt2", "n_inner": true})", "n_inner"},
      {R"({"model_type": "gpt2", "resid_pdrop": 1.0})", "resid_pdrop"},
      {R"({"model_type": "gpt2", "attn_pdrop": "none"})", "attn_pdrop"},
      {R"({"model_type": "gpt2", "layer_norm_epsilon": 0})", "layer_norm_epsilon"},
      {R"({"model_type": "gpt2", "tie_word_embeddings": 1})", "tie_word_embeddings"},
      {R"({"model_type": "gpt2", "activation_function": "relu"})", "activation_function"},
      {R"({"model_type": "gpt2", "scale_attn_weights": false})", "scale_attn_weights"},
      {R"({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": true})",
       "scale_attn_by_inverse_layer_idx"},
      {R"({"model_type": "gpt2", "add_cross_attention": true})", "add_cross_attention"},
      {R"({"model_type": "gpt2", "quantization_config": {"bits": 4}})", "quantization_config"},
  };
  for (const auto& [text, key] : cases) {
    EXPECT_THAT(error_of(text), AllOf(HasSubstr("dir/config.json"), HasSubstr(key))) << text;
  }
  EXPECT_THAT(error_of("{"), HasSubstr("dir/config.json"));
  EXPECT_THAT(error_of("[]"), HasSubstr("dir/config.json"));
}

TEST(Gpt2Config, ListsThePresetsWhenOneIsUnknown) {
  try {
    (void)Gpt2Config::preset("gpt-3");
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("gpt-3"), HasSubstr("gpt-lite"), HasSubstr("gpt2-xl")));
  }
}

TEST(Gpt2Config, GptLiteHas85MillionParameters) {
  EXPECT_NEAR(static_cast<double>(parameter_count(Gpt2Config::preset("gpt-lite"))), 85.4e6, 0.1e6);
}

}  // namespace
}  // namespace strata::models
