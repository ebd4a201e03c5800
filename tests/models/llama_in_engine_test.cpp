#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "models/everything_on_nvme.h"
#include "models/expect_same_units.h"
#include "models/small_llama.h"
#include "strata/base/error.h"
#include "strata/models/checkpoint.h"
#include "strata/models/generate.h"
#include "strata/models/llama.h"
#include "strata/models/model_config.h"
#include "strata/zero3/engine.h"

/// \file
/// A `Llama` in an engine is the `Llama` in memory; with its vocabulary in tiles it is so up to
/// roundings.

namespace strata::models::llama_in_engine_test {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

struct Case {
  Precision precision;
  bool tied;
  LlamaConfig config = small_llama_with_all();
};

class LlamaInEngine : public ::testing::TestWithParam<Case> {
 protected:
  LlamaInEngine() {
    config_.tie_word_embeddings = GetParam().tied;
    config_.attention_dropout = 0.1;
    root_ = fs::path(::testing::TempDir()) / ("strata_llama_" + std::to_string(::getpid()));
    fs::create_directories(root_);
    torch::manual_seed(1);
    for (int i = 0; i < 2; ++i) {
      batch_.push_back({torch::randint(config_.vocab_size, {2, 20}, torch::kInt64),
                        torch::randint(config_.vocab_size, {2, 20}, torch::kInt64)});
    }
  }
  ~LlamaInEngine() override { fs::remove_all(root_); }

  [[nodiscard]] formats::DsConfig everything_on_nvme(std::int64_t accumulation = 1) const {
    return models::everything_on_nvme("llama", root_, GetParam().precision, accumulation);
  }
  /// The vocabulary in four tiles or so, as large as the largest block is.
  [[nodiscard]] formats::DsConfig in_tiles(std::int64_t accumulation = 1) {
    config_.vocab_size = 500;
    formats::DsConfig config = everything_on_nvme(accumulation);
    std::uint64_t largest = 0;
    for (const zero3::UnitLayout& unit : unit_layouts(config_)) {
      if (unit.name.starts_with("model.layers.")) largest = std::max(largest, unit.trainable_count);
    }
    config.strata.tile_bytes = largest * number_bytes();
    return config;
  }
  [[nodiscard]] std::uint64_t number_bytes() const { return weight_bytes(GetParam().precision); }

  [[nodiscard]] Llama in_memory() const {
    return Llama(config_, GetParam().precision, random_initializer(config_, 3));
  }
  [[nodiscard]] Llama in_engine(Engine& engine) const {
    return Llama(config_, engine, random_initializer(config_, 3));
  }

  void expect_laid_out_units(Engine& engine, const ModelTiles& tiles) const {
    const Llama model = in_engine(engine);
    const std::vector<zero3::UnitLayout> expected =
        unit_layouts(config_, engine.config().fp32_patterns(), tiles);
    const std::vector<zero3::UnitLayout>& units = engine.plan_input().units;
    expect_same_units(units, expected);
  }

  [[nodiscard]] std::string text_of(const fs::path& name) const {
    std::ifstream file(root_ / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  LlamaConfig config_ = GetParam().config;
  fs::path root_;
  std::vector<UnitSequence::Tensors> batch_;
};

TEST_P(LlamaInEngine, HasTheUnitsThatWereLaidOutWithoutItInTilesToo) {
  formats::DsConfig config = everything_on_nvme();
  if (GetParam().precision != Precision::kFp32) config.strata.keep_fp32 = {"*norm.weight"};
  Engine engine(config);
  expect_laid_out_units(engine, {});
  Engine tiled(in_tiles());
  const ModelTiles tiles = tiles_of(config_, tiled.config(), tiled.plan_input());
  ASSERT_TRUE(tiles.vocabulary);
  expect_laid_out_units(tiled, tiles);
}

TEST_P(LlamaInEngine, ComputesTheSameBitsAsInMemory) {
  Engine engine(everything_on_nvme());
  Llama model = in_engine(engine), reference = in_memory();
  torch::manual_seed(2);  // seed of the dropout
  const Tensor loss = model.loss(batch_[0][0], batch_[0][1]);
  torch::manual_seed(2);
  const Tensor expected = reference.loss(batch_[0][0], batch_[0][1]);
  EXPECT_EQ(loss.item<float>(), expected.item<float>());

  model.eval();
  reference.eval();
  torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::equal(model.forward(batch_[0][0]), reference.forward(batch_[0][0])));
  const std::vector<std::int64_t> prompt = {1, 2, 3};
  EXPECT_EQ(generate(model, prompt, {.count = 30}), generate(reference, prompt, {.count = 30}));
}

TEST_P(LlamaInEngine, TakesTheStepsOfTheModelInMemory) {
  Engine engine(everything_on_nvme(2));
  Llama model = in_engine(engine), reference = in_memory();
  model.eval();  // random numbers would be drawn in another order
  reference.eval();
  const auto masters = [&] {
    std::vector<Tensor> values;
    engine.visit_masters(
        [&](const std::string&, const Tensor& value) { values.push_back(value.clone()); });
    return values;
  };
  const std::vector<Tensor> before = masters();
  const double share = GetParam().precision == Precision::kFp32 ? 1e-5 : 3e-2;
  const BatchReport report = engine.train_batch(model.sequence(), batch_);
  for (std::size_t i = 0; i < batch_.size(); ++i) {
    const Tensor loss = reference.loss(batch_[i][0], batch_[i][1]);
    // Experts take the tokens of all micro-batches at once, whose sums round otherwise.
    const double difference = config_.num_experts > 0 ? share * loss.item<double>() : 0;
    EXPECT_NEAR(report.losses[i], loss.item<double>(), difference);
    (loss / 2).backward();
  }
  const std::vector<Tensor> after = masters(), parameters = reference.parameters();
  ASSERT_EQ(after.size(), parameters.size());
  for (std::size_t i = 0; i < after.size(); ++i) {
    const Tensor step = before[i] - after[i];  // SGD at rate 1
    const Tensor gradient = parameters[i].grad().to(torch::kFloat32);
    const double allowed = share * gradient.abs().max().item<double>() + 1e-7;
    EXPECT_LE((step - gradient).abs().max().item<double>(), allowed) << "parameter " << i;
  }
}

TEST_P(LlamaInEngine, IsSavedAsTheSameFilesInTilesTooAndReadFromThem) {
  Engine tiled(in_tiles());
  Llama model = in_engine(tiled), reference = in_memory();
  Engine engine(everything_on_nvme());
  Llama whole = in_engine(engine);
  save_pretrained(model, root_ / "tiled");
  save_pretrained(whole, root_ / "whole");
  save_pretrained(reference, root_ / "memory");
  for (const char* name : {"config.json", "model.safetensors"}) {
    EXPECT_FALSE(text_of(fs::path("memory") / name).empty());
    EXPECT_TRUE(text_of(fs::path("tiled") / name) == text_of(fs::path("memory") / name)) << name;
    EXPECT_TRUE(text_of(fs::path("whole") / name) == text_of(fs::path("memory") / name)) << name;
  }
  const formats::ModelDirectory directory(root_ / "memory");
  const ModelConfig config = checkpoint_config(directory);
  const auto read =
      make_causal_lm(config, GetParam().precision, checkpoint_initializer(config, directory));
  read->eval();
  reference.eval();
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::equal(read->forward(batch_[0][0]), reference.forward(batch_[0][0])));
}

TEST_P(LlamaInEngine, InTilesComputesWhatTheWholeComputesUpToRoundings) {
  Engine tiled(in_tiles(2));
  Llama model = in_engine(tiled), reference = in_memory();
  model.eval();
  reference.eval();
  const double allowed = GetParam().precision == Precision::kFp32 ? 1e-5 : 2e-2;
  {
    const torch::NoGradGuard no_grad;
    const Tensor& tokens = batch_[0][0];
    EXPECT_TRUE(torch::allclose(model.forward(tokens), reference.forward(tokens), 0, allowed));
    EXPECT_TRUE(torch::allclose(model.next_token_logits(tokens),
                                reference.next_token_logits(tokens), 0, allowed));
  }
  const BatchReport report = tiled.train_batch(model.sequence(), batch_);
  for (std::size_t i = 0; i < batch_.size(); ++i) {
    const Tensor loss = reference.loss(batch_[i][0], batch_[i][1]);
    EXPECT_NEAR(report.losses[i], loss.item<double>(), allowed);
    (loss / 2).backward();
  }
  double squares = 0.0;
  for (const Tensor& parameter : reference.parameters()) {
    squares += parameter.grad().to(torch::kFloat64).square().sum().item<double>();
  }
  EXPECT_NEAR(report.step.grad_norm, std::sqrt(squares), allowed * std::sqrt(squares));
}

TEST_P(LlamaInEngine, TrainsWhereTheWholeVocabularyHasNoRoomInTheBytesOfThePlan) {
  config_.vocab_size = 5000;
  formats::DsConfig crowded = everything_on_nvme();
  zero3::PlanInput input = zero3::plan_input_from(crowded);
  const auto least = [&](const ModelTiles& tiles) {
    zero3::PlanInput with_units = input;
    with_units.units = unit_layouts(config_, {}, tiles);
    return zero3::smallest_budgets(with_units).device;
  };
  input.budgets.device = 1;
  const ModelTiles smallest = tiles_of(config_, crowded, input);
  crowded.strata.device_budget_bytes = least(smallest);
  ASSERT_LT(*crowded.strata.device_budget_bytes, least({}));
  Engine engine(crowded);
  Llama model = in_engine(engine);
  std::vector<double> losses;
  for (int step = 0; step < 6; ++step) {
    const Tensor loss = model.loss(batch_[0][0], batch_[0][1]);
    engine.backward(loss);
    engine.step();
    losses.push_back(loss.item<double>());
  }
  EXPECT_LT(losses.back(), losses.front());
  for (const tiering::Tier tier :
       {tiering::Tier::kDevice, tiering::Tier::kHost, tiering::Tier::kNvme}) {
    EXPECT_EQ(engine.use(tier).peak, engine.plan().total.of(tier)) << name_of(tier);
  }
}

TEST_P(LlamaInEngine, RefusesTokensBeyondContextAndVocabulary) {
  Engine engine(everything_on_nvme());
  Llama model = in_engine(engine);
  const Tensor good = torch::zeros({1, 4}, torch::kInt64);
  EXPECT_THROW((void)model.forward(torch::zeros({1, 25}, torch::kInt64)), UsageError);
  EXPECT_THROW((void)model.forward(good.to(torch::kInt32)), UsageError);
  EXPECT_THROW((void)model.loss(good, good.narrow(1, 0, 3)), UsageError);
  EXPECT_ANY_THROW((void)model.loss(good + config_.vocab_size, good));
  EXPECT_ANY_THROW((void)model.loss(good, good + config_.vocab_size));
}

INSTANTIATE_TEST_SUITE_P(All, LlamaInEngine,
                         ::testing::Values(Case{Precision::kFp32, true},
                                           Case{Precision::kFp32, false},
                                           Case{Precision::kBf16, true},
                                           Case{Precision::kBf16, false},
                                           Case{Precision::kFp32, true, small_gemma2()},
                                           Case{Precision::kBf16, false, small_olmo2()},
                                           Case{Precision::kFp32, false, small_phi3()},
                                           Case{Precision::kFp32, false, small_mixtral()},
                                           Case{Precision::kBf16, true, small_qwen3_moe()}),
                         [](const auto& test) {
                           return std::string(test.param.config.model_type()) + "_" +
                                  std::string(name_of(test.param.precision)) +
                                  (test.param.tied ? "" : "_untied");
                         });

}  // namespace
}  // namespace strata::models::llama_in_engine_test
