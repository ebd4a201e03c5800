#include <algorithm>
#include <string>
#include <vector>

#include "models/tiled_gpt2.h"
#include "strata/base/units.h"

/// \file
/// A `Gpt2` whose blocks are in tiles is the `Gpt2`: its names, its values, its files; its numbers
/// up to stated roundings, and the same bits on every schedule.

namespace strata::models::tiled_block_test {
namespace {

using tiering::Tier;
using torch::Tensor;

struct Case {
  Precision precision;
  bool recompute;
};

class TiledBlocks : public TiledGpt2, public ::testing::WithParamInterface<Case> {
 protected:
  TiledBlocks() : TiledGpt2(GetParam().precision) {}

  [[nodiscard]] formats::DsConfig given(std::int64_t accumulation = 1) const {
    formats::DsConfig config = everything_on_nvme(accumulation);
    config.strata.recompute = GetParam().recompute;
    return config;
  }
  /// Tiles of some outputs; the last one of a layer is shorter. The vocabulary, whose numbers are
  /// another test's, is whole.
  [[nodiscard]] formats::DsConfig in_tiles(std::int64_t accumulation = 1) const {
    formats::DsConfig config = given(accumulation);
    config.strata.tile_bytes = kTileElements * weight_bytes(precision_);
    return config;
  }

  static constexpr std::uint64_t kTileElements = 37 * 16;  // the vocabulary's
};

TEST_P(TiledBlocks, HaveTheUnitsThatWereLaidOutWithoutThem) {
  Engine engine(in_tiles());
  const Gpt2Tiles tiles = tiles_of(config_, engine.config(), engine.plan_input());
  ASSERT_TRUE(tiles.blocks);
  EXPECT_FALSE(tiles.vocabulary);
  EXPECT_EQ(tiles.blocks->c_attn.count(), 2);
  EXPECT_EQ(tiles.blocks->attn_proj.count(), 1);
  EXPECT_EQ(tiles.blocks->c_fc.count(), 2);
  EXPECT_EQ(tiles.blocks->mlp_proj.count(), 2);
  expect_units(engine, tiles);
}

TEST_P(TiledBlocks, HaveTheNamesAndTheInitialValuesOfTheWholeModel) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine), reference = in_memory();
  expect_same_parameters(model, reference);
}

TEST_P(TiledBlocks, AreSavedAsTheFilesOfTheWholeModelAndReadFromThem) {
  expect_same_files(in_tiles());
}

TEST_P(TiledBlocks, ComputeWhatTheWholeModelComputes) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine), reference = in_memory();
  model.eval();
  reference.eval();
  {
    const torch::NoGradGuard no_grad;
    const Tensor& tokens = batch_[0][0];
    EXPECT_TRUE(torch::allclose(model.forward(tokens), reference.forward(tokens), 0, allowed()));
  }
  const Tensor loss = model.loss(batch_[0][0], batch_[0][1]);
  const Tensor expected = reference.loss(batch_[0][0], batch_[0][1]);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), allowed());
}

TEST_P(TiledBlocks, HaveTheGradientsOfTheWholeModelUpToRoundings) {
  expect_same_gradients_up_to_roundings(in_tiles());
}

TEST_P(TiledBlocks, TrainWhereABlockHasNoRoomToTheBitsOfRoomyTilesInTheBytesOfThePlan) {
  config_.n_inner = 160;  // a block is larger than the vocabulary
  formats::DsConfig crowded = given(), forced = given();
  zero3::PlanInput input = zero3::plan_input_from(crowded);
  const auto least = [&](const Gpt2Tiles& tiles) {
    zero3::PlanInput with_units = input;
    with_units.units = unit_layouts(config_, {}, tiles);
    return zero3::smallest_budgets(with_units);
  };
  input.budgets.device = 1;
  const zero3::TierBytes smallest = least(tiles_of(config_, crowded, input));
  ASSERT_LT(smallest.device, least({}).device);
  crowded.strata.device_budget_bytes = input.budgets.device = smallest.device;
  crowded.strata.host_budget_bytes = smallest.host;
  crowded.strata.nvme_budget_bytes = smallest.nvme;
  const Gpt2Tiles tiles = tiles_of(config_, crowded, input);
  ASSERT_TRUE(tiles.blocks);
  // Tiles of the least budget are a quarter of it where that leaves enough.
  const std::uint64_t widest =
      16 * static_cast<std::uint64_t>(
               std::max({tiles.blocks->c_attn.tile_rows(), tiles.blocks->c_fc.tile_rows(),
                         10 * tiles.blocks->mlp_proj.tile_rows(),
                         tiles.vocabulary ? tiles.vocabulary->tile_rows() : 0}));
  forced.strata.tile_bytes = widest * weight_bytes(precision_);
  ASSERT_EQ(tiles_of(config_, forced, zero3::plan_input_from(forced)), tiles);
  Engine small(crowded), roomy(forced);
  expect_same_training(small, roomy);
  for (const Tier tier : {Tier::kDevice, Tier::kHost, Tier::kNvme}) {
    EXPECT_LE(small.use(tier).peak, smallest.of(tier)) << name_of(tier);
    EXPECT_EQ(small.use(tier).peak, small.plan().total.of(tier)) << name_of(tier);
  }
}

TEST_P(TiledBlocks, HaveTheSameBitsRecomputedOrNotOverlappedOrNotAndWithActivationsAway) {
  config_.resid_pdrop = config_.attn_pdrop = config_.embd_pdrop = 0.1;
  formats::DsConfig other = in_tiles();
  other.strata.recompute = !GetParam().recompute;
  formats::DsConfig serial = in_tiles();
  serial.strata.overlap_step = false;
  formats::DsConfig away = in_tiles();
  away.strata.activations_host_bytes = 1_MiB;
  const auto train = [&](const formats::DsConfig& config) {
    Engine engine(config);
    Gpt2 model = in_engine(engine);
    torch::manual_seed(5);
    for (int step = 0; step < 3; ++step) {
      engine.backward(model.loss(batch_[0][0], batch_[0][1]));
      engine.step();
    }
    return masters_of(engine);
  };
  const std::vector<Tensor> expected = train(in_tiles());
  for (const formats::DsConfig& config : {other, serial, away})
    expect_same(train(config), expected);
}

TEST_P(TiledBlocks, InABatchHaveTheLossesAndTheGradientsOfTheLoop) {
  config_.tie_word_embeddings = false;
  Engine batches(in_tiles(3)), loop(in_tiles(3));
  expect_losses_of_the_loop(batches, loop);
  const std::vector<Tensor> left = masters_of(batches), right = masters_of(loop);
  ASSERT_EQ(left.size(), right.size());
  const std::vector<zero3::UnitLayout>& units = batches.plan_input().units;
  std::size_t next = 0;
  for (const zero3::UnitLayout& unit : units) {
    // The unit of the norms is used twice, that of the embeddings too: each use adds its own
    // micro-batches first.
    const bool is_used_once = unit.name.starts_with("tile_");
    for (std::size_t i = 0; i < unit.parameters.size(); ++i, ++next) {
      if (is_used_once) {
        EXPECT_TRUE(torch::equal(left[next], right[next])) << unit.name;
      } else {
        EXPECT_TRUE(torch::allclose(left[next], right[next], 1e-5, 1e-6)) << unit.name;
      }
    }
  }
}

TEST_P(TiledBlocks, UpdatedUnderBackwardHaveTheSameBits) {
  expect_same_bits_under_backward(in_tiles(3));
}

INSTANTIATE_TEST_SUITE_P(
    All, TiledBlocks,
    ::testing::Values(Case{Precision::kFp32, true}, Case{Precision::kFp32, false},
                      Case{Precision::kBf16, true}, Case{Precision::kBf16, false},
                      Case{Precision::kFp16, true}),
    [](const auto& test) {
      return std::string(name_of(test.param.precision)) + (test.param.recompute ? "" : "_kept");
    });

}  // namespace
}  // namespace strata::models::tiled_block_test
