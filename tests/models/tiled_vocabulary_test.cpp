#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "models/tiled_gpt2.h"
#include "strata/models/generate.h"

/// \file
/// A `Gpt2` whose vocabulary is in tiles is the `Gpt2`: its names, its values, its files; its
/// numbers up to stated roundings.

namespace strata::models::tiled_vocabulary_test {
namespace {

using torch::Tensor;

struct Case {
  Precision precision;
  bool tied;
};

class TiledVocabulary : public TiledGpt2, public ::testing::WithParamInterface<Case> {
 protected:
  TiledVocabulary() : TiledGpt2(GetParam().precision) {
    config_.tie_word_embeddings = GetParam().tied;
  }

  /// With tiles of 10 rows: four, of which the last one is shorter. Blocks are in tiles too.
  [[nodiscard]] formats::DsConfig in_tiles(std::int64_t accumulation = 1) const {
    formats::DsConfig config = everything_on_nvme(accumulation);
    config.strata.tile_bytes = 10 * 16 * weight_bytes(precision_);
    return config;
  }
};

TEST_P(TiledVocabulary, HasTheUnitsThatWereLaidOutWithoutIt) {
  Engine engine(in_tiles());
  const Gpt2Tiles tiles = tiles_of(config_, engine.config(), engine.plan_input());
  ASSERT_TRUE(tiles.vocabulary);
  EXPECT_EQ(tiles.vocabulary->count(), 4);
  expect_units(engine, tiles);
  const std::vector<zero3::UnitLayout>& units = engine.plan_input().units;
  const auto of_vocabulary = std::count_if(units.begin(), units.end(), [](const auto& unit) {
    return unit.name.starts_with("tile_") && unit.name.ends_with(".transformer");
  });
  EXPECT_EQ(of_vocabulary, GetParam().tied ? 4 : 8);
}

TEST_P(TiledVocabulary, HasTheNamesAndTheInitialValuesOfTheWholeModel) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine), reference = in_memory();
  expect_same_parameters(model, reference);
}

TEST_P(TiledVocabulary, IsSavedAsTheFilesOfTheWholeModelAndReadFromThem) {
  expect_same_files(in_tiles());
}

TEST_P(TiledVocabulary, ComputesWhatTheWholeModelComputes) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine), reference = in_memory();
  model.eval();
  reference.eval();
  {
    const torch::NoGradGuard no_grad;
    const Tensor& tokens = batch_[0][0];
    EXPECT_TRUE(torch::allclose(model.forward(tokens), reference.forward(tokens), 0, allowed()));
    EXPECT_TRUE(torch::allclose(model.next_token_logits(tokens),
                                reference.next_token_logits(tokens), 0, allowed()));
    const std::vector<std::int64_t> prompt = {1, 2, 3};
    const auto tokens_of = [&](Gpt2& of) { return generate(of, prompt, {.count = 8}); };
    if (precision_ == Precision::kFp32) {
      EXPECT_EQ(tokens_of(model), tokens_of(reference));
    }
  }
  const Tensor loss = model.loss(batch_[0][0], batch_[0][1]);
  const Tensor expected = reference.loss(batch_[0][0], batch_[0][1]);
  EXPECT_EQ(loss.scalar_type(), torch::kFloat32);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), allowed());
}

TEST_P(TiledVocabulary, HasTheGradientsOfTheWholeModelUpToRoundings) {
  expect_same_gradients_up_to_roundings(in_tiles());
}

TEST_P(TiledVocabulary, TrainsWhereTheWholeHasNoRoomToTheBitsOfRoomyTiles) {
  config_.vocab_size = 500;
  formats::DsConfig crowded = everything_on_nvme(1), forced = everything_on_nvme(1);
  zero3::PlanInput input = zero3::plan_input_from(crowded);
  const auto least = [&](const std::optional<RowTiles>& tiles) {
    zero3::PlanInput with_units = input;
    with_units.units = unit_layouts(config_, {}, {.vocabulary = tiles});
    return zero3::smallest_budgets(with_units).device;
  };
  // What a block takes, with its padding.
  crowded.strata.device_budget_bytes = least(RowTiles(500, 16, 1000));
  ASSERT_LT(*crowded.strata.device_budget_bytes, least(std::nullopt));
  input.budgets.device = *crowded.strata.device_budget_bytes;
  const Gpt2Tiles tiles = tiles_of(config_, crowded, input);
  ASSERT_TRUE(tiles.vocabulary);
  ASSERT_FALSE(tiles.blocks);
  forced.strata.tile_bytes = unit_layouts(config_)[1].trainable_count * weight_bytes(precision_);
  ASSERT_EQ(tiles_of(config_, forced, zero3::plan_input_from(forced)), tiles);
  Engine small(crowded), roomy(forced);
  expect_same_training(small, roomy);
  EXPECT_LE(small.use(tiering::Tier::kDevice).peak, *crowded.strata.device_budget_bytes);
}

TEST_P(TiledVocabulary, InABatchHasTheLossesOfTheLoopAndUntiedItsBits) {
  Engine batches(in_tiles(3)), loop(in_tiles(3));
  expect_losses_of_the_loop(batches, loop);
  if (!GetParam().tied) {
    expect_same(masters_of(batches), masters_of(loop));
    return;
  }
  // A tied tile adds all micro-batches of the head before those of the embedding.
  const std::vector<Tensor> left = masters_of(batches), right = masters_of(loop);
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_TRUE(torch::allclose(left[i], right[i], 1e-5, 1e-6)) << "parameter " << i;
  }
}

TEST_P(TiledVocabulary, UpdatedUnderBackwardHasTheSameBits) {
  expect_same_bits_under_backward(in_tiles(3));
}

TEST_P(TiledVocabulary, RefusesTokensAndTargetsBeyondIt) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine);
  for (const std::int64_t beyond : {std::int64_t{-1}, config_.vocab_size}) {
    const Tensor bad = torch::full({1, 4}, beyond, torch::kInt64), good = torch::ones_like(bad);
    EXPECT_ANY_THROW((void)model.loss(bad, good));
    EXPECT_ANY_THROW((void)model.loss(good, bad));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, TiledVocabulary,
    ::testing::Values(Case{Precision::kFp32, true}, Case{Precision::kFp32, false},
                      Case{Precision::kBf16, true}, Case{Precision::kBf16, false},
                      Case{Precision::kFp16, true}),
    [](const auto& test) {
      return std::string(name_of(test.param.precision)) + (test.param.tied ? "" : "_untied");
    });

}  // namespace
}  // namespace strata::models::tiled_vocabulary_test
