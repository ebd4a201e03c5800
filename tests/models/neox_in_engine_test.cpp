#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/everything_on_nvme.h"
#include "models/expect_same_units.h"
#include "models/small_neox.h"
#include "strata/models/causal_lm.h"
#include "strata/models/model_config.h"
#include "strata/models/neox_layout.h"
#include "strata/zero3/engine.h"

/// \file
/// A model of GPT-NeoX's kind in an engine is the one in memory.

namespace strata::models::neox_in_engine_test {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

class NeoxInEngine : public ::testing::TestWithParam<NeoxConfig> {
 protected:
  NeoxInEngine() {
    root_ = fs::path(::testing::TempDir()) / ("strata_neox_" + std::to_string(::getpid()));
    fs::create_directories(root_);
    torch::manual_seed(1);
    tokens_ = torch::randint(GetParam().vocab_size, {2, 20}, torch::kInt64);
    targets_ = torch::randint(GetParam().vocab_size, {2, 20}, torch::kInt64);
  }
  ~NeoxInEngine() override { fs::remove_all(root_); }

  [[nodiscard]] formats::DsConfig everything_on_nvme() const {
    return models::everything_on_nvme("neox", root_, Precision::kFp32, 1);
  }
  [[nodiscard]] std::unique_ptr<CausalLm> in_memory() const {
    return make_causal_lm(GetParam(), Precision::kFp32, random_initializer(config_, 3));
  }
  [[nodiscard]] std::unique_ptr<CausalLm> in_engine(Engine& engine) const {
    return make_causal_lm(GetParam(), engine, random_initializer(config_, 3));
  }

  ModelConfig config_ = GetParam();
  fs::path root_;
  Tensor tokens_, targets_;
};

TEST_P(NeoxInEngine, HasTheUnitsThatWereLaidOutWithoutIt) {
  Engine engine(everything_on_nvme());
  const auto model = in_engine(engine);
  const std::vector<zero3::UnitLayout> expected = unit_layouts(GetParam());
  const std::vector<zero3::UnitLayout>& units = engine.plan_input().units;
  expect_same_units(units, expected);
}

TEST_P(NeoxInEngine, ComputesTheBitsOfTheOneInMemoryWithItsDropoutAndItsGradients) {
  Engine engine(everything_on_nvme());
  const auto model = in_engine(engine), reference = in_memory();
  torch::manual_seed(2);  // of the dropout
  const Tensor loss = model->loss(tokens_, targets_);
  torch::manual_seed(2);
  const Tensor expected = reference->loss(tokens_, targets_);
  EXPECT_EQ(loss.item<float>(), expected.item<float>());
  reference->eval();
  EXPECT_NE(reference->loss(tokens_, targets_).item<float>(), expected.item<float>());
  expected.backward();
  engine.backward(loss);
  const StepReport report = engine.step();
  double squares = 0.0;
  for (const Tensor& parameter : reference->parameters()) {
    squares += parameter.grad().to(torch::kFloat64).square().sum().item<double>();
  }
  EXPECT_NEAR(report.grad_norm, std::sqrt(squares), 1e-5 * std::sqrt(squares));
}

NeoxConfig with_dropout(NeoxConfig config) {
  config.attention_dropout = 0.2;
  return config;
}

INSTANTIATE_TEST_SUITE_P(All, NeoxInEngine,
                         ::testing::Values(with_dropout(small_gptj()), with_dropout(small_neox())),
                         [](const auto& test) { return std::string(test.param.model_type()); });

}  // namespace
}  // namespace strata::models::neox_in_engine_test
