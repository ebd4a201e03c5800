#include "strata/models/neox_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "models/small_neox.h"
#include "strata/base/error.h"
#include "strata/formats/ds_config.h"
#include "strata/models/model_config.h"
#include "strata/models/neox_layout.h"
#include "strata/zero3/plan.h"
#include "support/message_of.h"

namespace strata::models::neox_config_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

NeoxConfig read(const std::string& text) { return NeoxConfig::from_json(text, "config.json"); }

std::string error_of(const std::string& text) {
  return support::message_of<ConfigError>(
      [&] { (void)ModelConfig::from_json(text, "dir/config.json"); });
}

std::string gptj(const std::string& keys) {
  return R"({"model_type": "gptj", "vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4,
             "rotary_dim": 4, "n_positions": 128)" +
         (keys.empty() ? std::string() : ", " + keys) + "}";
}

std::string neox(const std::string& keys) {
  return R"({"model_type": "gpt_neox", "vocab_size": 64, "hidden_size": 32,
             "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
             "max_position_embeddings": 128)" +
         (keys.empty() ? std::string() : ", " + keys) + "}";
}

TEST(NeoxConfig, PublishedConfigsHaveThePublishedParameters) {
  // GPT-J 6B
  EXPECT_EQ(parameter_count(read(R"({"model_type": "gptj", "activation_function": "gelu_new",
      "attn_pdrop": 0.0, "embd_pdrop": 0.0, "layer_norm_epsilon": 1e-05, "n_embd": 4096,
      "n_head": 16, "n_inner": null, "n_layer": 28, "n_positions": 2048, "resid_pdrop": 0.0,
      "rotary": true, "rotary_dim": 64, "scale_attn_weights": true, "tie_word_embeddings": false,
      "vocab_size": 50400})")),
            6'050'882'784u);
  // Pythia 70M
  EXPECT_EQ(parameter_count(read(R"({"model_type": "gpt_neox", "hidden_act": "gelu",
      "hidden_size": 512, "intermediate_size": 2048, "layer_norm_eps": 1e-05,
      "max_position_embeddings": 2048, "num_attention_heads": 8, "num_hidden_layers": 6,
      "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false,
      "use_parallel_residual": true, "vocab_size": 50304})")),
            70'426'624u);
}

TEST(NeoxConfig, AbsentKeysHaveTheDefaultsOfTheTypeInTransformers) {
  EXPECT_EQ(read(R"({"model_type": "gpt_neox"})"), NeoxConfig{});
  const NeoxConfig of_gptj = read(R"({"model_type": "gptj"})");
  EXPECT_EQ(of_gptj.intermediate_size, 4 * 4096);
  EXPECT_EQ(of_gptj.rotary_width(), 64);
  EXPECT_EQ(of_gptj.activation, NeoxConfig::Activation::kGeluTanh);
  EXPECT_EQ(read(gptj(R"("n_inner": 50)")).intermediate_size, 50);
  EXPECT_EQ(read(neox("")).rotary_width(), 4);
}

TEST(NeoxConfig, ReadsRopeInBothSpellings) {
  const NeoxConfig old = read(neox(R"("rotary_emb_base": 500, "rotary_pct": 0.5,
      "rope_scaling": {"type": "linear", "factor": 2.0})"));
  EXPECT_EQ(old, read(neox(R"("rope_parameters": {"rope_type": "linear", "rope_theta": 500.0,
      "partial_rotary_factor": 0.5, "factor": 2.0})")));
  EXPECT_EQ(old.rope.theta, 500.0);
  EXPECT_EQ(old.rotary_width(), 8);
  // Some versions of transformers wrote the base twice.
  EXPECT_EQ(read(neox(R"("rotary_emb_base": 500, "rope_theta": 500)")).rope.theta, 500.0);
}

TEST(NeoxConfig, RefusesWhatItDoesNotComputeByName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {gptj(R"("activation_function": "relu")"), "activation_function"},
      {gptj(R"("resid_pdrop": 0.1)"), "resid_pdrop"},
      {gptj(R"("embd_pdrop": 0.1)"), "embd_pdrop"},
      {gptj(R"("tie_word_embeddings": true)"), "tie_word_embeddings"},
      {gptj(R"("rope_scaling": {"type": "linear", "factor": 2.0})"), "rope_scaling"},
      {gptj(R"("use_parallel_residual": true)"), "use_parallel_residual"},
      {gptj(R"("hidden_size": 64)"), "hidden_size"},
      {R"({"model_type": "gptj", "rotary_dim": null})", "rotary_dim"},
      {R"({"model_type": "gptj", "rotary_dim": 258})", "rotary_dim"},
      {R"({"model_type": "gptj", "rotary_dim": 5})", "rotary_dim"},
      {R"({"model_type": "gptj", "n_embd": 99999999999})", "n_embd"},
      {R"({"model_type": "gptj", "n_head": 7})", "n_embd"},
      {neox(R"("hidden_act": "silu")"), "hidden_act"},
      {neox(R"("hidden_dropout": 0.1)"), "hidden_dropout"},
      {neox(R"("rotary_pct": 0.2)"), "partial_rotary_factor"},
      {neox(R"("rotary_emb_base": 500, "rope_theta": 600)"), "rope_theta"},
      {neox(R"("rope_scaling": {"type": "longrope"})"), "longrope"},
      {neox(R"("final_logit_softcapping": 30.0)"), "final_logit_softcapping"},
      {neox(R"("layer_norm_eps": 0)"), "layer_norm_eps"},
      {neox(R"("attention_dropout": 1)"), "attention_dropout"},
  };
  for (const auto& [text, key] : cases) {
    EXPECT_THAT(error_of(text), AllOf(HasSubstr("dir/config.json"), HasSubstr(key))) << text;
  }
}

TEST(NeoxConfig, IsReadAgainAsItWasWritten) {
  for (const ModelConfig& config :
       {ModelConfig(small_gptj()), ModelConfig(small_neox()),
        ModelConfig(read(neox(R"("use_parallel_residual": false, "attention_bias": false,
            "tie_word_embeddings": true, "rope_scaling": {"type": "linear", "factor": 2.0})")))}) {
    EXPECT_EQ(ModelConfig::from_json(config.to_json("float32"), "written"), config);
  }
  const std::string original =
      gptj(R"("custom": {"kept": [1]}, "activation_function": "gelu_fast")");
  const std::string written = read(original).to_json("bfloat16", original);
  EXPECT_THAT(written, AllOf(HasSubstr("custom"), HasSubstr("gelu_fast")));
  EXPECT_THROW((void)small_gptj().to_json("float32", original), ConfigError);
}

std::string described(const std::vector<zero3::UnitLayout>& units) {
  std::string text;
  for (const zero3::UnitLayout& unit : units) {
    for (const auto& parameter : unit.parameters) {
      text += unit.full_name(parameter);
      for (const std::int64_t extent : parameter.shape) text += " " + std::to_string(extent);
      text += "\n";
    }
  }
  return text;
}

TEST(NeoxLayout, UnitsAndParametersHaveTheNamesAndShapesOfTheFilesInOrder) {
  NeoxConfig of_gptj = small_gptj(), of_neox = small_neox();
  of_gptj.num_hidden_layers = of_neox.num_hidden_layers = 1;
  EXPECT_EQ(described(unit_layouts(of_gptj)),
            "transformer.wte.weight 37 20\n"
            "transformer.h.0.ln_1.weight 20\n"
            "transformer.h.0.ln_1.bias 20\n"
            "transformer.h.0.attn.q_proj.weight 20 20\n"
            "transformer.h.0.attn.k_proj.weight 20 20\n"
            "transformer.h.0.attn.v_proj.weight 20 20\n"
            "transformer.h.0.attn.out_proj.weight 20 20\n"
            "transformer.h.0.mlp.fc_in.weight 28 20\n"
            "transformer.h.0.mlp.fc_in.bias 28\n"
            "transformer.h.0.mlp.fc_out.weight 20 28\n"
            "transformer.h.0.mlp.fc_out.bias 20\n"
            "transformer.ln_f.weight 20\n"
            "transformer.ln_f.bias 20\n"
            "lm_head.weight 37 20\n"
            "lm_head.bias 37\n");
  EXPECT_EQ(described(unit_layouts(of_neox)),
            "gpt_neox.embed_in.weight 37 20\n"
            "gpt_neox.layers.0.input_layernorm.weight 20\n"
            "gpt_neox.layers.0.input_layernorm.bias 20\n"
            "gpt_neox.layers.0.post_attention_layernorm.weight 20\n"
            "gpt_neox.layers.0.post_attention_layernorm.bias 20\n"
            "gpt_neox.layers.0.attention.query_key_value.weight 60 20\n"
            "gpt_neox.layers.0.attention.query_key_value.bias 60\n"
            "gpt_neox.layers.0.attention.dense.weight 20 20\n"
            "gpt_neox.layers.0.attention.dense.bias 20\n"
            "gpt_neox.layers.0.mlp.dense_h_to_4h.weight 28 20\n"
            "gpt_neox.layers.0.mlp.dense_h_to_4h.bias 28\n"
            "gpt_neox.layers.0.mlp.dense_4h_to_h.weight 20 28\n"
            "gpt_neox.layers.0.mlp.dense_4h_to_h.bias 20\n"
            "gpt_neox.final_layer_norm.weight 20\n"
            "gpt_neox.final_layer_norm.bias 20\n"
            "embed_out.weight 37 20\n");
}

TEST(NeoxLayout, AHeadWithABiasIsNotCutAndTileBytesBelowItAreRefused) {
  NeoxConfig config = small_gptj();
  config.vocab_size = 5000;
  formats::DsConfig engine;
  engine.name = "ds_config.json";
  zero3::PlanInput input = zero3::plan_input_from(engine);
  input.budgets.device = 1;
  EXPECT_EQ(tiles_of(config, engine, input), ModelTiles{});
  engine.strata.tile_bytes = 50'000;  // above a block
  EXPECT_THAT(support::message_of<ConfigError>([&] { (void)tiles_of(config, engine, input); }),
              AllOf(HasSubstr("strata.tile_bytes"), HasSubstr("vocabulary")));
  NeoxConfig without = small_neox();
  without.vocab_size = 5000;
  EXPECT_TRUE(tiles_of(without, engine, input).vocabulary);
}

TEST(NeoxLayout, AStepComputesEachUnitAsItsMatricesSay) {
  const zero3::StepWork work = step_work(small_neox(), {.sequences = 2, .length = 10}, 3, true);
  ASSERT_EQ(work.uses.size(), 6u);
  EXPECT_EQ(work.uses[1].forward, 2.0 * 20 * (4 * 20 * 20 + 2 * 20 * 28 + 10 * 20));
  EXPECT_EQ(work.uses[5].forward, 2.0 * 20 * 37 * 20);
}

TEST(NeoxLayout, AnswersAsAModelOfAnyFamilyToo) {
  const ModelConfig config = small_gptj();
  EXPECT_EQ(config.vocab_size(), 37);
  EXPECT_EQ(config.context(), 24);
  EXPECT_EQ(config.width(), 20);
  EXPECT_EQ(config.with_layers(1).layers(), 1);
  const std::optional<ModelConfig> half = config.narrower();
  ASSERT_TRUE(half);
  EXPECT_EQ(half->width(), 10);
  half->validate("half");
  EXPECT_FALSE(half->narrower());
}

}  // namespace
}  // namespace strata::models::neox_config_test
