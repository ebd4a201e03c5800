#include "strata/models/gpt2_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/ds_config.h"
#include "strata/zero3/plan.h"

namespace strata::models::gpt2_layout_test {
namespace {

double flop_of(const zero3::StepWork& work) {
  double flop = 0;
  for (const zero3::UnitUse& use : work.uses) flop += use.forward + use.backward + use.recompute;
  return flop * static_cast<double>(work.micro_batches);
}

TEST(Gpt2Layout, CountsThePublishedParameters) {
  EXPECT_EQ(parameter_count(Gpt2Config::preset("gpt2")), 124'439'808u);
  EXPECT_EQ(parameter_count(Gpt2Config::preset("gpt2-medium")), 354'823'168u);
  EXPECT_EQ(parameter_count(Gpt2Config::preset("gpt2-xl")), 1'557'611'200u);
}

TEST(Gpt2Layout, UnitsAndParametersHaveTransformersNamesAndShapesInOrder) {
  Gpt2Config config = Gpt2Config::preset("nanogpt-cpu");
  config.tie_word_embeddings = false;
  config.n_inner = 200;
  const std::vector<zero3::UnitLayout> units = unit_layouts(config);
  ASSERT_EQ(units.size(), 5u);
  const auto names = [](const zero3::UnitLayout& unit) {
    std::string all;
    for (const auto& parameter : unit.parameters) all += unit.full_name(parameter) + "\n";
    return all;
  };
  EXPECT_EQ(names(units[0]),
            "transformer.wte.weight\ntransformer.wpe.weight\ntransformer.ln_f.weight\n"
            "transformer.ln_f.bias\ntransformer.lm_head.weight\n");
  EXPECT_EQ(names(units[4]),
            "transformer.h.3.ln_1.weight\ntransformer.h.3.ln_1.bias\n"
            "transformer.h.3.attn.c_attn.weight\ntransformer.h.3.attn.c_attn.bias\n"
            "transformer.h.3.attn.c_proj.weight\ntransformer.h.3.attn.c_proj.bias\n"
            "transformer.h.3.ln_2.weight\ntransformer.h.3.ln_2.bias\n"
            "transformer.h.3.mlp.c_fc.weight\ntransformer.h.3.mlp.c_fc.bias\n"
            "transformer.h.3.mlp.c_proj.weight\ntransformer.h.3.mlp.c_proj.bias\n");
  EXPECT_EQ(units[1].parameters[8].shape, (std::vector<std::int64_t>{128, 200}));
  EXPECT_EQ(units[1].parameters[10].shape, (std::vector<std::int64_t>{200, 128}));
}

TEST(Gpt2Layout, ParametersThatArePatternsOfFp32LieInTheirOwnVector) {
  const Gpt2Config config = Gpt2Config::preset("nanogpt-cpu");
  for (const zero3::UnitLayout& unit : unit_layouts(config, {"*ln_*"})) {
    EXPECT_GT(unit.fp32_trainable_count, 0u) << unit.name;
    EXPECT_GT(unit.trainable_count, 0u) << unit.name;
  }
}

TEST(Gpt2Layout, AStepComputesSixFlopForAParameterAndTokenAndEightWithRecomputation) {
  const Gpt2Config config = Gpt2Config::preset("gpt2-xl");
  const MicroBatch short_sequences{.sequences = 64, .length = 1};  // next to no attention
  const double each = static_cast<double>(parameter_count(config)) * 64;
  EXPECT_NEAR(flop_of(step_work(config, short_sequences, 1, false)) / each, 6, 0.03);
  EXPECT_NEAR(flop_of(step_work(config, short_sequences, 3, false)) / each, 18, 0.09);
  const double with = flop_of(step_work(config, short_sequences, 1, true)) / each;
  EXPECT_LT(with, 8);
  EXPECT_GT(with, 7.8);  // the head does not run again
}

TEST(Gpt2Layout, CausalAttentionAddsTwoFlopForEachPairAndElement) {
  const Gpt2Config config = Gpt2Config::preset("gpt2");
  const double one = flop_of(step_work(config, {.sequences = 1024, .length = 1}, 1, false));
  const double whole = flop_of(step_work(config, {.sequences = 1, .length = 1024}, 1, false));
  EXPECT_DOUBLE_EQ(whole - one, 3.0 * 12 * 2 * 1024 * 1023 * 768);
}

TEST(Gpt2Layout, TheOuterUnitIsUsedAtBothEnds) {
  const zero3::StepWork work =
      step_work(Gpt2Config::preset("gpt2"), {.sequences = 1, .length = 8}, 2, true);
  ASSERT_EQ(work.uses.size(), 14u);
  EXPECT_EQ(work.uses.front().unit, 0u);
  EXPECT_EQ(work.uses.back().unit, 0u);
  EXPECT_EQ(work.uses.back().recompute, 0);
  EXPECT_EQ(work.uses[12].unit, 12u);
}

TEST(Gpt2Layout, BlocksAreGivenWhatTheirInputsTake) {
  const Gpt2Config config = Gpt2Config::preset("gpt2-xl");
  const MicroBatch batch{.sequences = 4, .length = 1024};
  std::uint64_t elements = 0;
  for (const zero3::UnitUse& use : step_work(config, batch, 3, true).uses) {
    elements += use.input_elements;
  }
  EXPECT_EQ(3 * 2 * elements, block_input_bytes(config, batch, 3, 2));
}

TEST(Gpt2Layout, KeepingActivationsTakesMoreThanTheirRecomputation) {
  const Gpt2Config config = Gpt2Config::preset("gpt2-xl");
  const MicroBatch batch{.sequences = 4, .length = 1024};
  EXPECT_GT(estimated_activation_bytes(config, batch, 1, 2, false),
            4 * estimated_activation_bytes(config, batch, 1, 2, true));
}

TEST(Gpt2Layout, WhatGoesFromBlockToBlockIsKeptOfAllMicroBatches) {
  const Gpt2Config config = Gpt2Config::preset("gpt2");
  const MicroBatch batch{.sequences = 4, .length = 1024};
  const auto bytes = [&](std::uint64_t micro_batches) {
    return estimated_activation_bytes(config, batch, micro_batches, 2, true);
  };
  EXPECT_EQ(bytes(5) - bytes(3), 2 * std::uint64_t{4 * 1024 * 768} * 12 * 2);
}

TEST(Gpt2Layout, AConfigThatMakesNoModelIsRefused) {
  Gpt2Config config;
  config.n_head = 7;
  EXPECT_THROW((void)unit_layouts(config), ConfigError);
}

// ---- a vocabulary in tiles ----------------------------------------------------------------------

/// bf16, everything on nvme, with a device budget.
formats::DsConfig with_device_budget(std::uint64_t bytes) {
  formats::DsConfig config;
  config.bf16.enabled = true;
  config.zero.offload_param.device = formats::OffloadDevice::kNvme;
  config.zero.offload_optimizer.device = formats::OffloadDevice::kNvme;
  config.strata.nvme_directories = {"."};
  config.strata.device_budget_bytes = bytes;
  return config;
}

Gpt2Tiles tiles_in(const formats::DsConfig& config, const Gpt2Config& model) {
  return tiles_of(model, config, zero3::plan_input_from(config));
}

std::uint64_t least_device(const formats::DsConfig& config, const Gpt2Config& model,
                           const Gpt2Tiles& tiles = {}) {
  return zero3::smallest_budgets(zero3::plan_input_from(config, unit_layouts(model, {}, tiles)))
      .device;
}

TEST(VocabularyTiles, AreThereWhereTheWholeHasNoRoomAndOnlyThere) {
  for (const bool tied : {true, false}) {
    Gpt2Config model = Gpt2Config::preset("gpt2");
    model.tie_word_embeddings = tied;
    const formats::DsConfig any = with_device_budget(1);
    const std::uint64_t whole = least_device(any, model);
    EXPECT_EQ(tiles_in(with_device_budget(whole), model), Gpt2Tiles{});
    for (std::uint64_t budget = whole - 1; budget > 20_MiB; budget -= 5_MiB) {
      const Gpt2Tiles tiles = tiles_in(with_device_budget(budget), model);
      ASSERT_TRUE(tiles.vocabulary) << budget;
      EXPECT_FALSE(tiles.blocks) << budget;
      EXPECT_LE(least_device(any, model, tiles), budget);
    }
  }
}

TEST(VocabularyTiles, AreNoLargerThanABlockWhereNothingLargerFits) {
  const Gpt2Config model = Gpt2Config::preset("gpt2");
  const zero3::UnitLayout block = unit_layouts(model)[1];
  const formats::DsConfig any = with_device_budget(1);
  const RowTiles of_a_block(model.vocab_size, model.n_embd, block.trainable_count);
  const std::uint64_t least = least_device(any, model, {.vocabulary = of_a_block});
  EXPECT_EQ(tiles_in(with_device_budget(least), model), Gpt2Tiles{.vocabulary = of_a_block});
}

TEST(VocabularyTiles, AreOfTheSizeThatTheConfigSays) {
  Gpt2Config model = Gpt2Config::preset("gpt2");
  formats::DsConfig config = with_device_budget(1_GiB);
  config.strata.tile_bytes = 10_MiB;
  const std::optional<RowTiles> tiles = tiles_in(config, model).vocabulary;
  ASSERT_TRUE(tiles);
  EXPECT_EQ(tiles->count(), 8);
  EXPECT_LE(static_cast<std::uint64_t>(2 * tiles->tile_rows() * model.n_embd), 10_MiB);
  config.strata.keep_fp32 = {"wte.weight"};
  EXPECT_EQ(tiles_in(config, model).vocabulary->count(), 15);
  config.strata.keep_fp32 = {};
  config.strata.tile_bytes = 1_GiB;
  EXPECT_EQ(tiles_in(config, model), Gpt2Tiles{}) << "what is no larger is whole";
}

TEST(VocabularyTiles, HaveTheParametersAndTheWorkOfTheWhole) {
  for (const bool tied : {true, false}) {
    Gpt2Config model = Gpt2Config::preset("gpt2");
    model.tie_word_embeddings = tied;
    const RowTiles tiles(model.vocab_size, model.n_embd, 4'000'000);
    const std::vector<zero3::UnitLayout> units =
        unit_layouts(model, {"wte.weight"}, {.vocabulary = tiles});
    std::uint64_t count = 0;
    for (const zero3::UnitLayout& unit : units) {
      for (const auto& parameter : unit.parameters) {
        count += parameter.count;
        EXPECT_EQ(parameter.fp32, unit.full_name(parameter).ends_with("wte.weight"));
      }
    }
    EXPECT_EQ(count, parameter_count(model));

    const MicroBatch batch{.sequences = 2, .length = 64};
    const zero3::StepWork whole = step_work(model, batch, 1, true),
                          work = step_work(model, batch, 1, true, {.vocabulary = tiles});
    double again = 0;  // logits that are made again
    for (const zero3::UnitUse& use : work.uses) {
      ASSERT_LT(use.unit, units.size());
      if (units[use.unit].name.starts_with("tile_")) again += use.recompute;
    }
    EXPECT_NEAR(flop_of(work) - again, flop_of(whole), 1e-9 * flop_of(whole));
    const zero3::UnitUse& last = work.uses.back();
    EXPECT_EQ(units[last.unit].parameters[0].name, tied ? "wte.weight" : "lm_head.weight");
    EXPECT_LT(estimated_activation_bytes(model, batch, 1, 2, true, {.vocabulary = tiles}),
              estimated_activation_bytes(model, batch, 1, 2, true));
  }
}

// ---- blocks in tiles ----------------------------------------------------------------------------

Gpt2Config wide_model() {
  Gpt2Config model = Gpt2Config::preset("gpt2");
  model.n_embd = 4096;
  model.n_head = 32;
  model.n_layer = 2;
  return model;
}

TEST(BlockTiles, AreThereWhereABlockHasNoRoomDownToTheLeastThatIsNamed) {
  for (const Gpt2Config& model : {Gpt2Config::preset("gpt2"), wide_model()}) {
    const formats::DsConfig any = with_device_budget(1);
    const Gpt2Tiles smallest = tiles_in(any, model);
    ASSERT_TRUE(smallest.blocks);
    const std::uint64_t least = least_device(any, model, smallest);
    const std::uint64_t of_a_block =
        least_device(any, model, {.vocabulary = RowTiles(model.vocab_size, model.n_embd, 1)});
    EXPECT_LT(least, of_a_block);
    EXPECT_FALSE(tiles_in(with_device_budget(of_a_block), model).blocks);
    for (int eighth = 0; eighth < 8; ++eighth) {
      const std::uint64_t budget = least + (of_a_block - 1 - least) / 8 * eighth;
      const Gpt2Tiles tiles = tiles_in(with_device_budget(budget), model);
      ASSERT_TRUE(tiles.blocks) << budget;
      EXPECT_LE(least_device(any, model, tiles), budget);
    }
  }
}

TEST(BlockTiles, AreOfTheSizeThatTheConfigSays) {
  formats::DsConfig config = with_device_budget(1_GiB);
  config.strata.tile_bytes = 32_MiB;
  const Gpt2Config model = wide_model();
  const std::optional<BlockTiles> tiles = tiles_in(config, model).blocks;
  ASSERT_TRUE(tiles);
  EXPECT_EQ(tiles->c_attn.count(), 3);
  EXPECT_EQ(tiles->attn_proj.count(), 1);
  EXPECT_EQ(tiles->c_fc.count(), 4);
  EXPECT_EQ(tiles->mlp_proj.count(), 4);
  EXPECT_EQ(tiles->count(), 12);
  config.strata.keep_fp32 = {"c_fc.weight"};
  EXPECT_GT(tiles_in(config, model).blocks->c_fc.count(), 4);
}

TEST(BlockTiles, HaveTheParametersAndTheWorkOfTheWhole) {
  const Gpt2Config model = wide_model();
  const Gpt2Tiles tiles{.blocks = BlockTiles(model, 10'000'000)};
  const std::vector<zero3::UnitLayout> units = unit_layouts(model, {"ln_1.*"}, tiles);
  std::uint64_t count = 0;
  for (const zero3::UnitLayout& unit : units) {
    for (const auto& parameter : unit.parameters) {
      count += parameter.count;
      EXPECT_EQ(parameter.fp32, parameter.name.starts_with("ln_1."));
    }
  }
  EXPECT_EQ(count, parameter_count(model));
  const MicroBatch batch{.sequences = 2, .length = 64};
  for (const bool recompute : {true, false}) {
    const zero3::StepWork whole = step_work(model, batch, 3, recompute),
                          work = step_work(model, batch, 3, recompute, tiles);
    EXPECT_NEAR(flop_of(work), flop_of(whole), 1e-9 * flop_of(whole));
    std::vector<bool> is_used(units.size());
    for (const zero3::UnitUse& use : work.uses) is_used.at(use.unit) = true;
    EXPECT_EQ(std::count(is_used.begin(), is_used.end(), false), 0);
    EXPECT_EQ(work.spans.size(), recompute ? 2u : 0u);
  }
}

}  // namespace
}  // namespace strata::models::gpt2_layout_test
