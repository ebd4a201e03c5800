#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/small_gpt2.h"
#include "strata/models/generate.h"
#include "strata/models/gpt2_checkpoint.h"
#include "strata/zero3/engine.h"

/// \file
/// A `Gpt2` whose vocabulary is in tiles is the `Gpt2`: its names, its values, its files; its
/// numbers up to stated roundings.

namespace strata::models {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

struct Case {
  Precision precision;
  bool tied;
};

class TiledVocabulary : public ::testing::TestWithParam<Case> {
 protected:
  TiledVocabulary() {
    config_.tie_word_embeddings = GetParam().tied;
    config_.initializer_range = 0.1;
    root_ = fs::path(::testing::TempDir()) / ("strata_tiles_" + std::to_string(::getpid()));
    fs::create_directories(root_);
    torch::manual_seed(1);
    for (int i = 0; i < 3; ++i) {
      batch_.push_back({torch::randint(config_.vocab_size, {2, 20}, torch::kInt64),
                        torch::randint(config_.vocab_size, {2, 20}, torch::kInt64)});
    }
  }
  ~TiledVocabulary() override { fs::remove_all(root_); }

  /// Everything on nvme, SGD at rate 1 without decay: a step takes the gradient from the master.
  [[nodiscard]] formats::DsConfig given(std::int64_t accumulation = 1) const {
    formats::DsConfig config;
    config.name = "tiled_vocabulary_test";
    config.train_batch_size = 2 * accumulation;
    config.train_micro_batch_size_per_gpu = 2;
    config.gradient_accumulation_steps = accumulation;
    config.gradient_clipping = 0.0;
    config.bf16.enabled = GetParam().precision == Precision::kBf16;
    config.fp16.enabled = GetParam().precision == Precision::kFp16;
    config.optimizer = {.type = formats::OptimizerType::kSgd, .lr = 1.0};
    config.zero.offload_param.device = formats::OffloadDevice::kNvme;
    config.zero.offload_optimizer.device = formats::OffloadDevice::kNvme;
    config.strata.nvme_directories = {root_.string()};
    config.strata.chunk_bytes = 4096;
    return config;
  }
  /// With tiles of 10 rows: four, of which the last one is shorter. Blocks are in tiles too.
  [[nodiscard]] formats::DsConfig in_tiles(std::int64_t accumulation = 1) const {
    formats::DsConfig config = given(accumulation);
    config.strata.tile_bytes = 10 * 16 * weight_bytes(GetParam().precision);
    return config;
  }

  [[nodiscard]] Gpt2 in_engine(Engine& engine) const {
    return Gpt2(config_, engine, random_initializer(config_, 3));
  }
  [[nodiscard]] Gpt2 in_memory() const {
    return Gpt2(config_, GetParam().precision, random_initializer(config_, 3));
  }

  Gpt2Config config_ = small_gpt2();
  fs::path root_;
  std::vector<UnitSequence::Tensors> batch_;
};

using Values = std::vector<std::pair<std::string, Tensor>>;

Values values_of(Gpt2& model) {
  Values values;
  model.visit_parameters([&](const std::string& name, const Tensor& value) {
    values.emplace_back(name, value.detach().clone());
  });
  return values;
}

std::vector<Tensor> masters_of(Engine& engine) {
  std::vector<Tensor> masters;
  engine.visit_masters(
      [&](const std::string&, const Tensor& value) { masters.push_back(value.clone()); });
  return masters;
}

void expect_same(const std::vector<Tensor>& left, const std::vector<Tensor>& right) {
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_TRUE(torch::equal(left[i], right[i])) << "parameter " << i;
  }
}

TEST_P(TiledVocabulary, HasTheUnitsThatWereLaidOutWithoutIt) {
  Engine engine(in_tiles());
  const Gpt2Tiles tiles = tiles_of(config_, engine.config(), engine.plan_input());
  ASSERT_TRUE(tiles.vocabulary);
  EXPECT_EQ(tiles.vocabulary->count(), 4);
  const Gpt2 model = in_engine(engine);
  const std::vector<zero3::UnitLayout> expected = unit_layouts(config_, {}, tiles);
  const std::vector<zero3::UnitLayout>& units = engine.plan_input().units;
  ASSERT_EQ(units.size(), expected.size());
  const auto of_vocabulary = std::count_if(units.begin(), units.end(), [](const auto& unit) {
    return unit.name.starts_with("tile_") && unit.name.ends_with(".transformer");
  });
  EXPECT_EQ(of_vocabulary, GetParam().tied ? 4 : 8);
  for (std::size_t i = 0; i < units.size(); ++i) {
    EXPECT_EQ(units[i].name, expected[i].name);
    ASSERT_EQ(units[i].parameters.size(), expected[i].parameters.size());
    for (std::size_t p = 0; p < units[i].parameters.size(); ++p) {
      EXPECT_EQ(units[i].parameters[p].name, expected[i].parameters[p].name);
      EXPECT_EQ(units[i].parameters[p].shape, expected[i].parameters[p].shape);
    }
  }
}

TEST_P(TiledVocabulary, HasTheNamesAndTheInitialValuesOfTheWholeModel) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine), reference = in_memory();
  const Values values = values_of(model), expected = values_of(reference);
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(values[i].first, expected[i].first);
    EXPECT_TRUE(torch::equal(values[i].second, expected[i].second)) << values[i].first;
  }
}

TEST_P(TiledVocabulary, IsSavedAsTheFilesOfTheWholeModelAndReadFromThem) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine), reference = in_memory();
  const auto text_of = [&](const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  for (const std::uint64_t file_bytes_max : {std::uint64_t{1} << 30, std::uint64_t{4000}}) {
    const fs::path tiled = root_ / ("tiled" + std::to_string(file_bytes_max)),
                   whole = root_ / ("whole" + std::to_string(file_bytes_max));
    save_pretrained(model, tiled, {.file_bytes_max = file_bytes_max});
    save_pretrained(reference, whole, {.file_bytes_max = file_bytes_max});
    std::size_t files = 0;
    for (const auto& entry : fs::directory_iterator(whole)) {
      EXPECT_TRUE(text_of(entry.path()) == text_of(tiled / entry.path().filename()))
          << entry.path();
      ++files;
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(tiled), {}), static_cast<std::ptrdiff_t>(files));

    const formats::ModelDirectory directory(whole);
    Engine reading(in_tiles());
    Gpt2 read(checkpoint_config(directory), reading, checkpoint_initializer(config_, directory));
    const Values values = values_of(read), expected = values_of(reference);
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_TRUE(torch::equal(values[i].second, expected[i].second)) << values[i].first;
    }
  }
}

TEST_P(TiledVocabulary, ComputesWhatTheWholeModelComputes) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine), reference = in_memory();
  const bool is_fp32 = GetParam().precision == Precision::kFp32;
  const double allowed = is_fp32 ? 1e-5 : 2e-2;
  model.eval();
  reference.eval();
  {
    const torch::NoGradGuard no_grad;
    const Tensor& tokens = batch_[0][0];
    EXPECT_TRUE(torch::allclose(model.forward(tokens), reference.forward(tokens), 0, allowed));
    EXPECT_TRUE(torch::allclose(model.next_token_logits(tokens),
                                reference.next_token_logits(tokens), 0, allowed));
    const std::vector<std::int64_t> prompt = {1, 2, 3};
    const auto tokens_of = [&](Gpt2& of) { return generate(of, prompt, {.count = 8}); };
    if (is_fp32) {
      EXPECT_EQ(tokens_of(model), tokens_of(reference));
    }
  }
  const Tensor loss = model.loss(batch_[0][0], batch_[0][1]);
  const Tensor expected = reference.loss(batch_[0][0], batch_[0][1]);
  EXPECT_EQ(loss.scalar_type(), torch::kFloat32);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), allowed);
}

TEST_P(TiledVocabulary, HasTheGradientsOfTheWholeModelUpToRoundings) {
  Engine engine(in_tiles());
  Gpt2 model = in_engine(engine), reference = in_memory();
  engine.backward(model.loss(batch_[0][0], batch_[0][1]));
  std::map<std::string, std::vector<Tensor>> pieces;
  engine.visit_gradients([&](const std::string& name, const Tensor& value) {
    const bool is_tile = name.starts_with("tile_");
    pieces[is_tile ? name.substr(name.find('.') + 1) : name].push_back(value.clone());
  });
  const double scale = GetParam().precision == Precision::kFp16 ? 1024.0 : 1.0;
  (reference.loss(batch_[0][0], batch_[0][1]) * scale).backward();
  std::vector<std::string> names;
  for (const zero3::UnitLayout& unit : unit_layouts(config_)) {
    for (const auto& parameter : unit.parameters) names.push_back(unit.full_name(parameter));
  }
  const std::vector<Tensor> parameters = reference.parameters();
  ASSERT_EQ(parameters.size(), names.size());
  ASSERT_EQ(pieces.size(), names.size());
  const double allowed = GetParam().precision == Precision::kFp32   ? 2e-6
                         : GetParam().precision == Precision::kBf16 ? 3e-2
                                                                    : 4e-3;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Tensor expected = parameters[i].grad().to(torch::kFloat64) / scale;
    const bool is_table = names[i].ends_with("wte.weight") || names[i].ends_with("head.weight");
    const Tensor gradient = torch::cat(pieces.at(names[i]), is_table ? 0 : -1).to(torch::kFloat64);
    const double largest = expected.abs().max().item<double>();
    EXPECT_LE((gradient - expected).abs().max().item<double>(), allowed * largest) << names[i];
  }
}

TEST_P(TiledVocabulary, TrainsWhereTheWholeHasNoRoomToTheBitsOfRoomyTiles) {
  config_.vocab_size = 500;
  formats::DsConfig crowded = given(), forced = given();
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
  forced.strata.tile_bytes =
      unit_layouts(config_)[1].trainable_count * weight_bytes(GetParam().precision);
  ASSERT_EQ(tiles_of(config_, forced, zero3::plan_input_from(forced)), tiles);
  Engine small(crowded), roomy(forced);
  Gpt2 model = in_engine(small), reference = in_engine(roomy);
  for (int step = 0; step < 3; ++step) {
    const auto train = [&](Engine& engine, Gpt2& of) {
      const Tensor loss = of.loss(batch_[0][0], batch_[0][1]);
      engine.backward(loss);
      engine.step();
      return loss.item<double>();
    };
    EXPECT_EQ(train(small, model), train(roomy, reference));
  }
  expect_same(masters_of(small), masters_of(roomy));
  EXPECT_LE(small.use(tiering::Tier::kDevice).peak, *crowded.strata.device_budget_bytes);
}

TEST_P(TiledVocabulary, InABatchHasTheLossesOfTheLoopAndUntiedItsBits) {
  Engine batches(in_tiles(3)), loop(in_tiles(3));
  Gpt2 model = in_engine(batches), reference = in_engine(loop);
  const BatchReport report = batches.train_batch(model.sequence(), batch_);
  for (std::size_t i = 0; i < batch_.size(); ++i) {
    const Tensor loss = reference.loss(batch_[i][0], batch_[i][1]);
    EXPECT_EQ(report.losses[i], loss.item<double>());
    loop.backward(loss);
    loop.step();
  }
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
  if (GetParam().precision == Precision::kFp16) return;  // its scale has to know all gradients
  formats::DsConfig early_config = in_tiles(3);
  early_config.strata.step_under_backward = true;
  Engine early(early_config), late(in_tiles(3));
  Gpt2 model = in_engine(early), reference = in_engine(late);
  for (int step = 0; step < 2; ++step) {
    const BatchReport report = early.train_batch(model.sequence(), batch_);
    EXPECT_EQ(report.losses, late.train_batch(reference.sequence(), batch_).losses);
  }
  expect_same(masters_of(early), masters_of(late));
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
}  // namespace strata::models
