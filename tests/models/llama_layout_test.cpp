#include "strata/models/llama_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/small_llama.h"
#include "strata/base/error.h"
#include "strata/formats/ds_config.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/plan.h"
#include "support/message_of.h"

namespace strata::models::llama_layout_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// A model of 3 blocks whose vocabulary is larger than a block.
LlamaConfig with_large_vocabulary() {
  LlamaConfig config = small_llama();
  config.vocab_size = 5000;
  return config;
}

formats::DsConfig everything_on_nvme() {
  formats::DsConfig config;
  config.name = "ds_config.json";
  config.bf16.enabled = true;
  config.zero.offload_param.device = formats::OffloadDevice::kNvme;
  config.zero.offload_optimizer.device = formats::OffloadDevice::kNvme;
  config.strata.nvme_directories = {"nvme"};
  return config;
}

std::uint64_t least_device(const LlamaConfig& config, const ModelTiles& tiles = {}) {
  return zero3::smallest_budgets(
             zero3::plan_input_from(everything_on_nvme(), unit_layouts(config, {}, tiles)))
      .device;
}

TEST(LlamaLayout, UnitsAndParametersHaveTransformersNamesAndShapesInOrder) {
  LlamaConfig config = small_llama_with_all();
  config.mlp_bias = true;
  const std::vector<zero3::UnitLayout> units = unit_layouts(config);
  ASSERT_EQ(units.size(), 6u);
  std::string names;
  for (const zero3::UnitLayout& unit : {units[0], units[3], units[4], units[5]}) {
    for (const auto& parameter : unit.parameters) {
      names += unit.full_name(parameter);
      for (const std::int64_t extent : parameter.shape) names += " " + std::to_string(extent);
      names += "\n";
    }
  }
  EXPECT_EQ(names,
            "model.embed_tokens.weight 37 16\n"
            "model.layers.2.self_attn.q_proj.weight 24 16\n"
            "model.layers.2.self_attn.q_proj.bias 24\n"
            "model.layers.2.self_attn.k_proj.weight 12 16\n"
            "model.layers.2.self_attn.k_proj.bias 12\n"
            "model.layers.2.self_attn.v_proj.weight 12 16\n"
            "model.layers.2.self_attn.v_proj.bias 12\n"
            "model.layers.2.self_attn.o_proj.weight 16 24\n"
            "model.layers.2.self_attn.o_proj.bias 16\n"
            "model.layers.2.self_attn.q_norm.weight 6\n"
            "model.layers.2.self_attn.k_norm.weight 6\n"
            "model.layers.2.mlp.gate_proj.weight 20 16\n"
            "model.layers.2.mlp.gate_proj.bias 20\n"
            "model.layers.2.mlp.up_proj.weight 20 16\n"
            "model.layers.2.mlp.up_proj.bias 20\n"
            "model.layers.2.mlp.down_proj.weight 16 20\n"
            "model.layers.2.mlp.down_proj.bias 16\n"
            "model.layers.2.input_layernorm.weight 16\n"
            "model.layers.2.post_attention_layernorm.weight 16\n"
            "model.norm.weight 16\n"
            "lm_head.weight 37 16\n");
}

TEST(LlamaLayout, BlocksHaveTheMatricesAndNormsOfTheirType) {
  const auto names_of = [](const LlamaConfig& config) {
    const zero3::UnitLayout block = unit_layouts(config)[1];
    std::string names;
    for (const auto& parameter : block.parameters) {
      names += parameter.name;
      for (const std::int64_t extent : parameter.shape) names += " " + std::to_string(extent);
      names += "\n";
    }
    return names;
  };
  EXPECT_EQ(names_of(small_phi3()),
            "self_attn.qkv_proj.weight 48 16\n"
            "self_attn.o_proj.weight 16 24\n"
            "mlp.gate_up_proj.weight 40 16\n"
            "mlp.down_proj.weight 16 20\n"
            "input_layernorm.weight 16\n"
            "post_attention_layernorm.weight 16\n");
  const std::string matrices =
      "self_attn.q_proj.weight 24 16\n"
      "self_attn.k_proj.weight 12 16\n"
      "self_attn.v_proj.weight 12 16\n"
      "self_attn.o_proj.weight 16 24\n";
  const std::string mlp =
      "mlp.gate_proj.weight 20 16\n"
      "mlp.up_proj.weight 20 16\n"
      "mlp.down_proj.weight 16 20\n";
  EXPECT_EQ(names_of(small_olmo2()), matrices +
                                         "self_attn.q_norm.weight 24\n"
                                         "self_attn.k_norm.weight 12\n" +
                                         mlp +
                                         "post_attention_layernorm.weight 16\n"
                                         "post_feedforward_layernorm.weight 16\n");
  EXPECT_EQ(names_of(small_gemma2()), matrices + mlp +
                                          "input_layernorm.weight 16\n"
                                          "post_attention_layernorm.weight 16\n"
                                          "pre_feedforward_layernorm.weight 16\n"
                                          "post_feedforward_layernorm.weight 16\n");
}

TEST(LlamaLayout, ExpertsAreUnitsBehindTheirBlockAndTheRouterIsInIt) {
  const auto text_of = [](const zero3::UnitLayout& unit) {
    std::string text;
    for (const auto& parameter : unit.parameters) {
      text += unit.full_name(parameter);
      for (const std::int64_t extent : parameter.shape) text += " " + std::to_string(extent);
      text += "\n";
    }
    return text;
  };
  const std::vector<zero3::UnitLayout> mixtral = unit_layouts(small_mixtral());
  ASSERT_EQ(mixtral.size(), 1u + 3 * (1 + 5) + 2);
  EXPECT_THAT(text_of(mixtral[7]), HasSubstr("model.layers.1.block_sparse_moe.gate.weight 5 16\n"));
  EXPECT_THAT(text_of(mixtral[7]), Not(HasSubstr("_proj.weight 20 16")));
  EXPECT_EQ(text_of(mixtral[10]),
            "model.layers.1.block_sparse_moe.experts.2.w1.weight 20 16\n"
            "model.layers.1.block_sparse_moe.experts.2.w3.weight 20 16\n"
            "model.layers.1.block_sparse_moe.experts.2.w2.weight 16 20\n");
  const std::vector<zero3::UnitLayout> qwen = unit_layouts(small_qwen3_moe());
  ASSERT_EQ(qwen.size(), 1u + (1 + 16) + 1 + (1 + 16) + 2);
  EXPECT_THAT(text_of(qwen[1]), HasSubstr("model.layers.0.mlp.gate.weight 16 16\n"));
  EXPECT_THAT(text_of(qwen[18]), HasSubstr("model.layers.1.mlp.gate_proj.weight 20 16\n"));
  EXPECT_EQ(text_of(qwen[20]),
            "model.layers.2.mlp.experts.0.gate_proj.weight 7 16\n"
            "model.layers.2.mlp.experts.0.up_proj.weight 7 16\n"
            "model.layers.2.mlp.experts.0.down_proj.weight 16 7\n");
}

TEST(LlamaLayout, AStepUsesAsManyExpertsAsTokensChooseOnAverage) {
  const LlamaConfig config = small_qwen3_moe();
  const auto uses_of = [&](std::int64_t length) {
    return step_work(config, {.sequences = 1, .length = length}, 1, /*recompute=*/true).uses;
  };
  // A token chooses 3 of 16, two 3 + 3 * 13 / 16.
  ASSERT_EQ(uses_of(1).size(), 1u + (1 + 3) + 1 + (1 + 3) + 2);
  const std::vector<zero3::UnitUse> uses = uses_of(2);
  ASSERT_EQ(uses.size(), 1u + (1 + 6) + 1 + (1 + 6) + 2);
  const double all = 2 * 2 * 3 * (3.0 * 16 * 7);  // of two tokens, each through three experts
  EXPECT_DOUBLE_EQ(uses[2].forward, all / 6);
  EXPECT_DOUBLE_EQ(uses[2].backward, 2 * all / 6);
  EXPECT_EQ(uses[2].unit, 2u);
  EXPECT_EQ(uses[8].unit, 18u) << "behind the ten that are not chosen";
  EXPECT_EQ(uses_of(24).size(), 1u + (1 + 16) + 1 + (1 + 16) + 2);
}

TEST(LlamaLayout, TheVocabularyIsCutWhereTheDeviceHasNoRoomForIt) {
  const LlamaConfig config = with_large_vocabulary();
  const formats::DsConfig engine = everything_on_nvme();
  zero3::PlanInput input = zero3::plan_input_from(engine);
  EXPECT_EQ(tiles_of(config, engine, input), ModelTiles{});
  input.budgets.device = least_device(config) - 1;
  const ModelTiles tiles = tiles_of(config, engine, input);
  ASSERT_TRUE(tiles.vocabulary);
  EXPECT_LE(least_device(config, tiles), input.budgets.device);
  EXPECT_EQ(unit_layouts(config, {}, tiles).size(),
            static_cast<std::size_t>(2 * tiles.vocabulary->count() + 4));
}

TEST(LlamaLayout, ABudgetBelowABlockIsRefusedWithTheLeastThatWorks) {
  const LlamaConfig config = with_large_vocabulary();
  const formats::DsConfig engine = everything_on_nvme();
  zero3::PlanInput input = zero3::plan_input_from(engine);
  const auto planned_with = [&](std::uint64_t budget) {
    input.budgets.device = budget;
    zero3::PlanInput whole = input;
    whole.units = unit_layouts(config, {}, tiles_of(config, engine, input));
    return zero3::make_plan(whole);
  };
  input.budgets.device = 1;
  const std::uint64_t least = least_device(config, tiles_of(config, engine, input));
  EXPECT_NO_THROW((void)planned_with(least));
  EXPECT_THAT(support::message_of<BudgetError>([&] { (void)planned_with(least - 1); }),
              HasSubstr(std::to_string(least)));
}

TEST(LlamaLayout, TileBytesAreKeptToOrRefused) {
  const LlamaConfig config = with_large_vocabulary();
  formats::DsConfig engine = everything_on_nvme();
  const zero3::PlanInput input = zero3::plan_input_from(engine);
  const std::uint64_t block = unit_layouts(config)[1].trainable_count * 2;
  engine.strata.tile_bytes = block;
  const ModelTiles tiles = tiles_of(config, engine, input);
  ASSERT_TRUE(tiles.vocabulary);
  EXPECT_LE(static_cast<std::uint64_t>(tiles.vocabulary->tile_rows() * config.hidden_size * 2),
            block);
  engine.strata.tile_bytes = block - 1;
  EXPECT_THAT(support::message_of<ConfigError>([&] { (void)tiles_of(config, engine, input); }),
              testing::AllOf(HasSubstr("ds_config.json: strata.tile_bytes"),
                             HasSubstr(std::to_string(block))));
}

TEST(LlamaLayout, AStepComputesEachUnitAsItsMatricesSay) {
  LlamaConfig config = small_llama();
  const MicroBatch micro_batch{.sequences = 2, .length = 10};
  const zero3::StepWork work = step_work(config, micro_batch, 3, /*recompute=*/true);
  ASSERT_EQ(work.uses.size(), 6u);  // embedding, blocks, norm, head
  const double matrices = 16 * 24 + 2 * 16 * 12 + 24 * 16 + 3 * 16 * 20;
  const double block = 2 * 20 * (matrices + 10 * 24);
  EXPECT_EQ(work.uses[1].forward, block);
  EXPECT_EQ(work.uses[1].backward, 2 * block);
  EXPECT_EQ(work.uses[1].recompute, block);
  EXPECT_EQ(work.uses[1].input_elements, 20u * 16);
  EXPECT_EQ(work.uses[5].unit, 5u);
  EXPECT_EQ(work.uses[5].forward, 2.0 * 20 * 37 * 16);
  EXPECT_EQ(work.uses[5].recompute, 0.0);
  config.tie_word_embeddings = true;
  EXPECT_EQ(step_work(config, micro_batch, 3, true).uses[5].unit, 0u);
  const ModelTiles tiles{.vocabulary = RowTiles(37, 16, 160)};
  const zero3::StepWork cut = step_work(config, micro_batch, 3, true, tiles);
  ASSERT_EQ(cut.uses.size(), 4u + 3 + 1 + 4);
  EXPECT_EQ(cut.uses[4].unit, 4u);
  EXPECT_EQ(cut.uses[7].unit, 7u);
  EXPECT_EQ(cut.uses[8].unit, 0u);
}

TEST(LlamaLayout, TheEstimateHasScoresThatAreHeldAndNormsOfBothSides) {
  const MicroBatch micro_batch{.sequences = 2, .length = 10};
  const auto bytes_of = [&](const LlamaConfig& config) {
    return estimated_activation_bytes(config, micro_batch, 1, /*number_bytes=*/2,
                                      /*recompute=*/true);
  };
  LlamaConfig config = small_gemma2();
  const std::uint64_t capped = bytes_of(config);
  config.attention_soft_cap.reset();
  EXPECT_EQ(capped - bytes_of(config), 2u * 10 * 10 * 4 * (3 * 4 + 2));
  // Four norms, of which each keeps two numbers in fp32 and one in bf16, for two of Llama's.
  LlamaConfig llama = config;
  llama.type = LlamaConfig::Type::kLlama;
  const std::uint64_t gradients =
      2 * (unit_layouts(config)[1].trainable_count - unit_layouts(llama)[1].trainable_count);
  EXPECT_EQ(bytes_of(config) - bytes_of(llama),
            2u * 10 * 16 * (4 * (2 * 4 + 2) - 2 * (4 + 2 * 2)) + gradients);
}

TEST(LlamaLayout, AnswersAsAModelOfAnyFamilyToo) {
  const ModelConfig config = small_llama_with_all();
  EXPECT_EQ(config.vocab_size(), 37);
  EXPECT_EQ(config.context(), 24);
  EXPECT_EQ(config.width(), 16);
  EXPECT_EQ(config.layers(), 3);
  EXPECT_EQ(unit_layouts(config).size(), 6u);
  EXPECT_EQ(unit_layouts(config.with_layers(1)).size(), 4u);
  const std::optional<ModelConfig> half = config.narrower();
  ASSERT_TRUE(half);
  EXPECT_EQ(half->as<LlamaConfig>().num_attention_heads, 2);
  EXPECT_LT(parameter_count(*half), parameter_count(config));
  EXPECT_FALSE(half->narrower()->narrower());
}

}  // namespace
}  // namespace strata::models::llama_layout_test
