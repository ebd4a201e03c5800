#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "models/everything_on_nvme.h"
#include "models/expect_same_units.h"
#include "models/small_llama.h"
#include "models/small_neox.h"
#include "strata/base/error.h"
#include "strata/models/adapter_checkpoint.h"
#include "strata/models/checkpoint.h"
#include "strata/models/lora.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/engine.h"
#include "support/message_of.h"

/// \file
/// A model with adapters: they alone are trained, and the base is only read.

namespace strata::models::lora_test {
namespace {

namespace fs = std::filesystem;
using support::message_of;
using testing::HasSubstr;
using torch::Tensor;

struct Case {
  const char* name;
  Precision precision;
  ModelConfig config;
  const char* lora;
  std::vector<std::string> keep_fp32 = {};
};

class Lora : public ::testing::TestWithParam<Case> {
 protected:
  Lora() {
    root_ = fs::path(::testing::TempDir()) / ("strata_lora_" + std::to_string(::getpid()));
    fs::create_directories(root_);
    torch::manual_seed(1);
    for (int i = 0; i < 2; ++i) {
      batch_.push_back({torch::randint(config_.vocab_size(), {2, 20}, torch::kInt64),
                        torch::randint(config_.vocab_size(), {2, 20}, torch::kInt64)});
    }
  }
  ~Lora() override { fs::remove_all(root_); }

  /// SGD at rate 1.
  [[nodiscard]] formats::DsConfig on_nvme(std::int64_t accumulation = 1) const {
    formats::DsConfig config =
        everything_on_nvme("lora", root_, GetParam().precision, accumulation);
    config.strata.keep_fp32 = GetParam().keep_fp32;
    config.strata.host_cache = false;
    return config;
  }
  /// A base, and adapters that change what it computes.
  [[nodiscard]] ParameterInitializer initializer() const {
    const ParameterInitializer random =
        with_new_adapters(config_, random_initializer(without_lora(config_), 3), 5);
    return [random](const std::string& name, Tensor& value) {
      random(name, value);
      if (name.ends_with("lora_B.weight"))
        value.copy_(torch::cos(torch::arange(value.numel())).view(value.sizes()) * 0.2);
    };
  }
  [[nodiscard]] std::unique_ptr<CausalLm> in_engine(Engine& engine) const {
    return make_causal_lm(config_, engine, initializer());
  }
  static std::map<std::string, Tensor> masters_of(Engine& engine) {
    std::map<std::string, Tensor> values;
    engine.visit_masters(
        [&](const std::string& name, const Tensor& value) { values.emplace(name, value.clone()); });
    return values;
  }

  ModelConfig config_ =
      with_lora(GetParam().config, LoraConfig::from_option(GetParam().lora, "--lora"), "--lora");
  fs::path root_;
  std::vector<UnitSequence::Tensors> batch_;
};

TEST_P(Lora, HasTheUnitsThatWereLaidOutAndTakesTheBytesOfThePlan) {
  Engine engine(on_nvme());
  const auto model = in_engine(engine);
  const std::vector<zero3::UnitLayout> expected =
      unit_layouts(config_, engine.config().fp32_patterns());
  const std::vector<zero3::UnitLayout>& units = engine.plan_input().units;
  expect_same_units(units, expected);
  engine.backward(model->loss(batch_[0][0], batch_[0][1]));
  engine.step();
  for (const tiering::Tier tier :
       {tiering::Tier::kDevice, tiering::Tier::kHost, tiering::Tier::kNvme}) {
    EXPECT_EQ(engine.use(tier).peak, engine.plan().total.of(tier)) << name_of(tier);
  }
}

TEST_P(Lora, TakesTheStepsOfTheModelInMemoryAndLeavesTheBaseBitForBit) {
  Engine engine(on_nvme(2));
  const auto model = in_engine(engine);
  const auto reference = make_causal_lm(config_, GetParam().precision, initializer());
  model->eval();  // random numbers would be drawn in another order
  reference->eval();
  const std::map<std::string, Tensor> before = masters_of(engine);
  const BatchReport report = engine.train_batch(model->sequence(), batch_);
  const std::map<std::string, Tensor> after = masters_of(engine);
  for (std::size_t i = 0; i < batch_.size(); ++i) {
    const Tensor loss = reference->loss(batch_[i][0], batch_[i][1]);
    EXPECT_NEAR(report.losses[i], loss.item<double>(), GetParam().keep_fp32.empty() ? 0 : 1e-2);
    (loss / 2).backward();
  }
  std::map<std::string, Tensor> gradients;
  reference->visit_parameters([&](const std::string& name, const Tensor& value) {
    EXPECT_EQ(value.grad().defined(), is_adapter_parameter(name)) << name;
    if (value.grad().defined()) gradients.emplace(name, value.grad().to(torch::kFloat32));
  });
  // What the engine keeps in fp32 the model in memory rounds.
  const double share = GetParam().precision == Precision::kFp32 ? 1e-5
                       : GetParam().keep_fp32.empty()           ? 5e-2
                                                                : 0.15;
  std::size_t adapters = 0;
  for (const auto& [name, value] : before) {
    if (!is_adapter_parameter(name)) {
      EXPECT_TRUE(torch::equal(value, after.at(name))) << name;
      continue;
    }
    ++adapters;
    const Tensor& gradient = gradients.at(name);
    const double largest = gradient.abs().max().item<double>();
    EXPECT_GT(largest, 0) << name;
    EXPECT_LE((value - after.at(name) - gradient).abs().max().item<double>(),
              share * largest + 1e-7)
        << name;
  }
  EXPECT_EQ(adapters, gradients.size());
}

TEST_P(Lora, WritesNoByteOfTheBaseInAStep) {
  Engine engine(on_nvme());
  const auto model = in_engine(engine);
  const auto step = [&] {
    engine.backward(model->loss(batch_[0][0], batch_[0][1]));
    engine.step();
    engine.finish_step();
  };
  step();
  const CounterReading before = engine.counters();
  step();
  // At most the weight, what it lacks of its master and a gradient, each padded to whole blocks.
  std::uint64_t most = 0;
  for (const zero3::UnitLayout& unit : engine.plan_input().units) {
    most += (unit.trainable_count + unit.fp32_trainable_count) * 3 * sizeof(float);
  }
  const std::uint64_t written = (engine.counters() - before)[Hop::kFlush].bytes;
  EXPECT_GT(written, 0u);
  EXPECT_LE(written, most);
}

TEST_P(Lora, GivesTheSameBitsRecomputedOrNot) {
  const auto train = [&](bool recompute) {
    formats::DsConfig config = on_nvme();
    config.strata.recompute = recompute;
    Engine engine(config);
    const auto model = in_engine(engine);
    torch::manual_seed(9);  // of dropout
    for (int step = 0; step < 2; ++step) {
      engine.backward(model->loss(batch_[step][0], batch_[step][1]));
      engine.step();
    }
    return masters_of(engine);
  };
  const std::map<std::string, Tensor> kept = train(false), again = train(true);
  for (const auto& [name, value] : kept) EXPECT_TRUE(torch::equal(value, again.at(name))) << name;
}

TEST_P(Lora, IsWrittenAndReadBackWithTheSameNumbers) {
  Engine engine(on_nvme());
  const auto model = in_engine(engine);
  model->eval();
  const torch::NoGradGuard no_grad;
  fs::create_directories(root_ / "out");
  write_adapter(*model, root_ / "out", "base");
  const AdapterDirectory adapter(root_ / "out");
  EXPECT_EQ(adapter.config(), *lora_of(config_));
  adapter.require_adapters_of(config_);
  Engine other(on_nvme());
  const auto read = make_causal_lm(
      config_, other, with_adapters_of(adapter, random_initializer(without_lora(config_), 3)));
  read->eval();
  EXPECT_TRUE(torch::equal(read->forward(batch_[0][0]), model->forward(batch_[0][0])));
  EXPECT_THROW(save_pretrained(*model, root_ / "whole"), UsageError);
}

TEST_P(Lora, NewAdaptersChangeNothing) {
  const auto base_values = random_initializer(without_lora(config_), 3);
  const auto base = make_causal_lm(without_lora(config_), GetParam().precision, base_values);
  const auto fresh =
      make_causal_lm(config_, GetParam().precision, with_new_adapters(config_, base_values, 7));
  base->eval();
  fresh->eval();
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::equal(base->forward(batch_[0][0]), fresh->forward(batch_[0][0])));
  fresh->visit_parameters([](const std::string& name, const Tensor& value) {
    if (!name.ends_with("lora_A.weight")) return;
    const double bound = 1 / std::sqrt(static_cast<double>(value.size(1)));
    EXPECT_LE(value.abs().max().item<double>(), bound * 1.01) << name;
    EXPECT_GT(value.to(torch::kFloat32).std().item<double>(), 0.2 * bound) << name;
  });
}

INSTANTIATE_TEST_SUITE_P(
    All, Lora,
    ::testing::Values(
        Case{"llama", Precision::kFp32, small_llama(), "r=3,alpha=6"},
        Case{"everything", Precision::kFp32, small_llama_with_all(), "r=2,targets=all-linear"},
        Case{"dropout", Precision::kFp32, small_llama(), "r=3,dropout=0.5,targets=all-linear"},
        Case{"bf16", Precision::kBf16, small_olmo2(), "r=4,targets=q_proj+down_proj"},
        Case{"fp32_in_bf16", Precision::kBf16, small_gemma2(), "r=4", {"lora_?.weight"}},
        Case{"phi3", Precision::kFp32, small_phi3(), "r=4,targets=all-linear"},
        Case{"mixtral", Precision::kFp32, small_mixtral(), "r=4,targets=all-linear"},
        Case{"gpt_neox", Precision::kFp32, small_neox(), "r=4,targets=all-linear"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(LoraInTiles, TrainsBesideAVocabularyInTiles) {
  LlamaConfig llama = small_llama();
  llama.vocab_size = 500;
  const ModelConfig config = with_lora(llama, LoraConfig::from_option("r=2", "--lora"), "--lora");
  const fs::path root =
      fs::path(::testing::TempDir()) / ("strata_lora_tiles_" + std::to_string(::getpid()));
  fs::create_directories(root);
  torch::manual_seed(1);
  const std::vector<UnitSequence::Tensors> batch = {
      {torch::randint(500, {2, 20}, torch::kInt64), torch::randint(500, {2, 20}, torch::kInt64)},
      {torch::randint(500, {2, 20}, torch::kInt64), torch::randint(500, {2, 20}, torch::kInt64)}};
  const auto losses = [&](std::uint64_t tile_bytes) {
    formats::DsConfig tiled = everything_on_nvme("lora", root, Precision::kFp32, 2);
    tiled.strata.tile_bytes = tile_bytes;
    Engine engine(tiled);
    const auto model =
        make_causal_lm(config, engine, with_new_adapters(config, random_initializer(llama, 3), 5));
    EXPECT_EQ(engine.plan_input().units.size() > 6, tile_bytes > 0);
    std::vector<double> all;
    for (int step = 0; step < 3; ++step) {
      for (const double loss : engine.train_batch(model->sequence(), batch).losses) {
        all.push_back(loss);
      }
    }
    return all;
  };
  const std::vector<double> whole = losses(0), tiles = losses(16384);
  for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(whole[i], tiles[i], 1e-4);
  EXPECT_LT(tiles[4], tiles[0]);
  fs::remove_all(root);
}

}  // namespace
}  // namespace strata::models::lora_test
