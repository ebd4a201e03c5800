#include "strata/models/gpt2_config.h"

#include <gmock/gmock.h>

#include "strata/base/error.h"
#include "strata/models/gpt2.h"
#include "support/message_of.h"

namespace strata::models::gpt2_config_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string error_of(const std::string& text) {
  return support::message_of<ConfigError>(
      [&] { (void)Gpt2Config::from_json(text, "dir/config.json"); });
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
      {R"({"model_type": "gpt2", "is_causal": false})", "is_causal"},
      {R"({"model_type": "gpt2", "pruned_heads": {"0": [1]}})", "pruned_heads"},
      {R"({"model_type": "gpt2", "n_embd": 768, "hidden_size": 64})", "hidden_size"},
  };
  for (const auto& [text, key] : cases) {
    EXPECT_THAT(error_of(text), AllOf(HasSubstr("dir/config.json"), HasSubstr(key))) << text;
  }
  EXPECT_THAT(error_of("{"), HasSubstr("dir/config.json"));
  EXPECT_THAT(error_of("[]"), HasSubstr("dir/config.json"));
}

TEST(Gpt2Config, DoesNotJudgeKeysThatChangeNothingHere) {
  std::string labels;  // more values than most configs have
  for (int i = 0; i < 100'000; ++i)
    labels += (i == 0 ? "\"" : ", \"") + std::to_string(i) + "\": \"x\"";
  const std::string text = R"({"model_type": "gpt2", "eos_token_id": [0, 1], "bos_token_id": "<s>",
      "pad_token_id": -1, "use_cache": "no", "pruned_heads": {}, "is_causal": true,
      "task_specific_params": {"a": {"b": [null]}}, "id2label": {)" +
                           labels + "}}";
  const auto config = Gpt2Config::from_json(text, "config.json");
  EXPECT_EQ(config.n_embd, 768);
  EXPECT_EQ(config.eos_token_id, std::nullopt);
}

TEST(Gpt2Config, KeepsTheConfigThatTheModelCameWith) {
  const std::string original = R"({
  "z_custom": [1, 2.5, "x"],
  "activation_function": "gelu_pytorch_tanh",
  "architectures": [
    "GPT2LMHeadModel"
  ],
  "dtype": "float32",
  "eos_token_id": [
    0,
    1
  ],
  "hidden_size": 64,
  "layer_norm_epsilon": 1e-05,
  "model_type": "gpt2",
  "n_head": 4,
  "pad_token_id": 7
})";
  auto config = Gpt2Config::from_json(original, "config.json");
  config.tie_word_embeddings = false;
  const std::string written = config.to_json("bfloat16", original);
  for (const char* kept :
       {"z_custom", "2.5", "gelu_pytorch_tanh", "\"pad_token_id\": 7", "\"hidden_size\": 64",
        "\"tie_word_embeddings\": false", "\"dtype\": \"bfloat16\""}) {
    EXPECT_THAT(written, HasSubstr(kept));
  }
  EXPECT_THAT(written, testing::Not(HasSubstr("torch_dtype")));
  EXPECT_LT(written.find("z_custom"), written.find("activation_function"));
  EXPECT_LT(written.find("eos_token_id"), written.find("model_type"));
  EXPECT_EQ(Gpt2Config::from_json(written, "config.json"), config);
  EXPECT_EQ(config.to_json("bfloat16", written), written);
  EXPECT_THROW((void)config.to_json("float32", "[]"), ConfigError);
}

TEST(Gpt2Config, ListsThePresetsWhenOneIsUnknown) {
  try {
    (void)Gpt2Config::preset("gpt-3");
    FAIL() << support::kNothingThrown;
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("gpt-3"), HasSubstr("gpt-lite"), HasSubstr("gpt2-xl")));
  }
}

TEST(Gpt2Config, GptLiteHas85MillionParameters) {
  EXPECT_NEAR(static_cast<double>(parameter_count(Gpt2Config::preset("gpt-lite"))), 85.4e6, 0.1e6);
}

}  // namespace
}  // namespace strata::models::gpt2_config_test
