#include "strata/zero3/frozen_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "strata/base/error.h"
#include "zero3/small_engine.h"

/// \file
/// "strata.freeze": parameters without gradients and optimizer states, by patterns of their names.

namespace strata::frozen_parameters_test {
namespace {

using formats::OffloadDevice;
using small::input;
using small::linear;
using small::message_of;
using small::on_nvme;
using small::train_once;
using testing::HasSubstr;
using torch::Tensor;

/// Two units of a layer each, and one of two.
struct Model {
  explicit Model(Engine& engine)
      : below(engine.shard(linear(1), {.name = "h.0"})),
        above(engine.shard(linear(2), {.name = "h.1"})),
        both(engine.shard(torch::nn::Sequential(linear(3), linear(4)), {.name = "top"})) {}
  Tensor loss() { return both(torch::tanh(above(torch::tanh(below(input()))))).square().mean(); }

  Sharded<torch::nn::Linear> below, above;
  Sharded<torch::nn::Sequential> both;
};

formats::DsConfig freezing(std::vector<std::string> patterns, Precision precision) {
  formats::DsConfig config = on_nvme(precision);
  config.strata.freeze = std::move(patterns);
  config.strata.host_cache = false;
  return config;
}

class FrozenParameters : public testing::TestWithParam<Precision> {};
INSTANTIATE_TEST_SUITE_P(Formats, FrozenParameters,
                         testing::Values(Precision::kFp32, Precision::kBf16),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST_P(FrozenParameters, AreAsTheyWereAfterSteps) {
  Engine engine(freezing({"h.*", "1.bias"}, GetParam()));
  Model model(engine);
  const std::vector<Tensor> before = small::masters_of(engine);
  for (int step = 0; step < 3; ++step) train_once(engine, model.loss());
  const std::vector<Tensor> after = small::masters_of(engine);
  const std::vector<bool> trained = {false, false, false, false, true, true, true, false};
  ASSERT_EQ(after.size(), trained.size());
  for (std::size_t i = 0; i < trained.size(); ++i) {
    EXPECT_EQ(torch::equal(before[i], after[i]), !trained[i]) << "parameter " << i;
  }
  EXPECT_FALSE(model.below->weight.requires_grad());
}

TEST_P(FrozenParameters, TrainTheOthersAsThoseDoWhoseRequiresGradIsOff) {
  Engine engine(freezing({"h.0.*"}, GetParam())), other(freezing({}, GetParam()));
  Model model(engine);
  torch::nn::Linear below = linear(1);
  for (Tensor& parameter : below->parameters()) parameter.set_requires_grad(false);
  Sharded<torch::nn::Linear> frozen = other.shard(below, {.name = "h.0"});
  Sharded<torch::nn::Linear> above = other.shard(linear(2), {.name = "h.1"});
  Sharded<torch::nn::Sequential> both =
      other.shard(torch::nn::Sequential(linear(3), linear(4)), {.name = "top"});
  for (int step = 0; step < 3; ++step) {
    train_once(engine, model.loss());
    train_once(other, both(torch::tanh(above(torch::tanh(frozen(input()))))).square().mean());
  }
  small::expect_same(small::masters_of(engine), small::masters_of(other));
}

TEST_P(FrozenParameters, HaveNoOptimizerStatesAndAreNotWrittenInAStep) {
  const auto written_in_steps = [](const formats::DsConfig& config) {
    Engine engine(config);
    Model model(engine);
    train_once(engine, model.loss());
    engine.finish_step();
    const CounterReading before = engine.counters();
    train_once(engine, model.loss());
    engine.finish_step();
    return (engine.counters() - before)[Hop::kFlush].bytes;
  };
  const std::uint64_t of_top = written_in_steps(freezing({"h.*"}, GetParam()));
  const std::uint64_t of_all = written_in_steps(freezing({}, GetParam()));
  EXPECT_GT(of_top, 0u);
  EXPECT_EQ(of_all, 2 * of_top);  // of four layers two are trained
}

TEST_P(FrozenParameters, AreThoseOfThePlanWhoseBytesTheEngineTakes) {
  Engine all(freezing({}, GetParam())), engine(freezing({"h.1.weight", "top.*"}, GetParam()));
  Model model_of_all(all), model(engine);
  const std::vector<zero3::UnitLayout> expected =
      zero3::with_frozen(all.plan_input().units, engine.config().strata.freeze);
  const std::vector<zero3::UnitLayout>& units = engine.plan_input().units;
  ASSERT_EQ(units.size(), expected.size());
  for (std::size_t i = 0; i < units.size(); ++i) {
    EXPECT_EQ(units[i].trainable_count, expected[i].trainable_count);
    EXPECT_EQ(units[i].frozen_count, expected[i].frozen_count);
  }
  EXPECT_EQ(zero3::trainable_elements(units), 24u * 24 + 2 * 24);
  train_once(engine, model.loss());
  for (const tiering::Tier tier :
       {tiering::Tier::kDevice, tiering::Tier::kHost, tiering::Tier::kNvme}) {
    EXPECT_EQ(engine.use(tier).peak, engine.plan().total.of(tier)) << name_of(tier);
  }
  EXPECT_LT(engine.plan().total.nvme, zero3::make_plan(all.plan_input()).total.nvme);
}

TEST_P(FrozenParameters, StayFrozen) {
  Engine engine(freezing({"h.0.*"}, GetParam()));
  Model model(engine);
  model.below->weight.set_requires_grad(true);
  EXPECT_THAT(message_of<UsageError>([&] { (void)model.loss(); }), HasSubstr("was frozen"));
}

TEST_P(FrozenParameters, APatternThatMatchesNothingIsRefusedByName) {
  formats::DsConfig config = freezing({"h.0.*", "h.[2-9].*"}, GetParam());
  const auto refusal = [&] {
    Engine engine(config);
    const Model model(engine);
    return message_of<ConfigError>([&] { engine.prepare(); });
  };
  EXPECT_THAT(refusal(),
              HasSubstr("strata.freeze: the pattern \"h.[2-9].*\" matches no parameter"));
  config.strata.freeze.clear();
  config.strata.parameter_groups = {
      {.params = {"*"}, .lr = {}, .lr_scale = 0.5, .weight_decay = {}},
      {.params = {"*.bias", "head.*"}, .lr = 0.1, .lr_scale = {}, .weight_decay = {}}};
  EXPECT_THAT(refusal(), HasSubstr("strata.parameter_groups[1].params: the pattern \"head.*\""));
}

TEST_P(FrozenParameters, AGroupOfTheConfigHasItsOwnRate) {
  formats::DsConfig config = freezing({}, GetParam());
  config.strata.parameter_groups = {
      {.params = {"h.*"}, .lr = 0.0, .lr_scale = {}, .weight_decay = {}}};
  Engine engine(config);
  Model model(engine);
  const std::vector<Tensor> before = small::masters_of(engine);
  train_once(engine, model.loss());
  const std::vector<Tensor> after = small::masters_of(engine);
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(torch::equal(before[i], after[i]), i < 4) << "parameter " << i;
  }
}

}  // namespace
}  // namespace strata::frozen_parameters_test
