#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "strata/base/error.h"
#include "zero3/small_engine.h"

/// \file
/// The states of an engine can be read and changed: masters, gradients, learning rates.

namespace strata::engine_states_test {
namespace {

using formats::OffloadDevice;
using small::config_for;
using small::input;
using small::linear;
using small::message_of;
using small::norm_of;
using small::on_nvme;
using small::train_once;
using testing::HasSubstr;
using torch::Tensor;

class EngineStates : public testing::TestWithParam<std::tuple<OffloadDevice, Precision>> {
 protected:
  [[nodiscard]] static formats::DsConfig config() {
    return config_for(std::get<0>(GetParam()), std::get<1>(GetParam()));
  }
};
INSTANTIATE_TEST_SUITE_P(TiersAndFormats, EngineStates,
                         testing::Combine(testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme),
                                          testing::Values(Precision::kFp32, Precision::kBf16,
                                                          Precision::kFp16)));

torch::nn::Sequential two_layers() {
  torch::nn::Sequential module(linear(1), linear(2));
  module[0]->as<torch::nn::Linear>()->weight.set_requires_grad(false);
  return module;
}

TEST_P(EngineStates, MastersAreReadAsTheyWereGiven) {
  Engine engine(config());
  torch::nn::Sequential plain = two_layers();
  Sharded unit = engine.shard(two_layers(), {.name = "unit"});
  std::size_t seen = 0;
  engine.visit_masters([&](const std::string& name, const Tensor& value) {
    const Tensor expected = plain->named_parameters()[name.substr(5)];
    // A frozen parameter is its compute weight.
    const double tolerance = expected.requires_grad() ? 0.0 : 5e-3;
    EXPECT_TRUE(torch::allclose(value, expected, tolerance, tolerance)) << name;
    ++seen;
  });
  EXPECT_EQ(seen, 4u);
}

TEST_P(EngineStates, AStateDictGoesOutAndIn) {
  Engine engine(config()), other(config());
  Sharded unit = engine.shard(two_layers(), {.name = "unit"});
  const auto train = [](Engine& each, Sharded<torch::nn::Sequential>& layers) {
    const Tensor x = input().to(layers->parameters()[0].scalar_type());
    train_once(each, layers(x).to(torch::kFloat32).square().mean());
  };
  for (int step = 0; step < 3; ++step) train(engine, unit);
  torch::nn::Sequential fresh = two_layers();
  {
    torch::NoGradGuard no_grad;
    for (const Tensor& parameter : fresh->parameters()) parameter.zero_();
  }
  Sharded copy = other.shard(fresh, {.name = "unit"});
  std::ignore = small::values_of(copy);  // cached on the device
  copy.load_state_dict(unit.state_dict());
  const auto expected = unit.state_dict(), actual = copy.state_dict();
  for (const auto& item : expected) {
    EXPECT_TRUE(torch::equal(item.value(), actual[item.key()])) << item.key();
  }
  const std::vector<Tensor> ours = small::values_of(copy), theirs = small::values_of(unit);
  for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(torch::equal(ours[i], theirs[i]));
  train(other, copy);
}

TEST_P(EngineStates, AnAverageOverMastersIsKeptBesideTraining) {
  Engine engine(config());
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  std::map<std::string, Tensor> average;
  for (int step = 0; step < 4; ++step) {
    const Tensor x = input().to(unit->weight.scalar_type());
    train_once(engine, unit(x).to(torch::kFloat32).square().mean());
    engine.visit_masters([&](const std::string& name, const Tensor& value) {
      Tensor& mean = average[name];
      mean = mean.defined() ? mean.lerp(value, 0.5) : value.clone();
    });
  }
  engine.edit_masters([&](const std::string& name, Tensor& value) { value.copy_(average[name]); });
  EXPECT_TRUE(torch::equal(unit.state_dict()["weight"], average["unit.weight"]));
  EXPECT_TRUE(torch::allclose(small::weight_of(unit), average["unit.weight"], 1e-2, 1e-3));
}

TEST_P(EngineStates, GradientsAreShownBeforeTheStep) {
  Engine engine(config());
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  torch::nn::Linear plain = linear(1);
  plain->to(unit->weight.scalar_type());
  const Tensor x = input().to(unit->weight.scalar_type());
  engine.backward(unit(x).to(torch::kFloat32).square().mean());
  plain(x).to(torch::kFloat32).square().mean().backward();
  const double loss_scale = std::get<1>(GetParam()) == Precision::kFp16 ? 65536.0 : 1.0;
  std::vector<std::string> names;
  engine.visit_gradients([&](const std::string& name, const Tensor& gradient) {
    names.push_back(name);
    const Tensor expected = plain->named_parameters()[name.substr(5)].grad().to(torch::kFloat32);
    const double tolerance = loss_scale == 1.0 ? 0.0 : 2e-3;
    EXPECT_TRUE(torch::allclose(gradient, expected, tolerance, tolerance)) << name;
  });
  EXPECT_THAT(names, testing::ElementsAre("unit.weight", "unit.bias"));
  const std::vector<UnitNorm> norms = engine.gradient_norms();
  ASSERT_EQ(norms.size(), 1u);
  EXPECT_EQ(norms[0].unit, "unit");
  EXPECT_EQ(norms[0].norm, engine.step().grad_norm);
  EXPECT_TRUE(engine.gradient_norms().empty());
}

TEST(EngineStates, GradientsThatRestOnNvmeAreShown) {
  constexpr std::int64_t kWide = 300;
  constexpr int kLayers = 12;
  formats::DsConfig config = on_nvme();
  zero3::PlanInput input_of_plan = zero3::plan_input_from(config);
  zero3::UnitLayout layout;
  layout.add("weight", {kWide, kWide}, true);
  layout.add("bias", {kWide}, true);
  input_of_plan.units.assign(kLayers, layout);
  config.strata.host_budget_bytes = zero3::smallest_budgets(input_of_plan).host;
  Engine engine(config);
  std::vector<Sharded<torch::nn::Linear>> layers;
  std::vector<torch::nn::Linear> plain;
  for (std::uint64_t i = 0; i < kLayers; ++i) {
    layers.push_back(engine.shard(linear(i, kWide, kWide), {.name = std::to_string(i)}));
    plain.push_back(linear(i, kWide, kWide));
  }
  torch::manual_seed(3);
  Tensor x = torch::randn({4, kWide}), y = x;
  for (Sharded<torch::nn::Linear>& layer : layers) x = layer(x);
  for (torch::nn::Linear& layer : plain) y = layer(y);
  engine.backward(x.square().mean());
  ASSERT_TRUE(engine.plan().gradients_on_nvme);
  y.square().mean().backward();
  int seen = 0;
  engine.visit_gradients([&](const std::string& name, const Tensor& gradient) {
    const std::size_t dot = name.find('.');
    const torch::nn::Linear& layer = plain[std::stoul(name.substr(0, dot))];
    EXPECT_TRUE(torch::equal(gradient, layer->named_parameters()[name.substr(dot + 1)].grad()))
        << name;
    ++seen;
  });
  EXPECT_EQ(seen, 2 * kLayers);
  EXPECT_TRUE(engine.step().updated);
}

TEST(EngineStates, AGradientThatTakesSeveralSlotsOnItsWayToNvmeIsThatOfLibTorch) {
  constexpr std::int64_t kIn = 700, kOut = 4001;  // 11 MB, and slots are of 4 MiB
  formats::DsConfig config = on_nvme();
  config.gradient_accumulation_steps = 2;
  zero3::PlanInput input_of_plan = zero3::plan_input_from(config);
  zero3::UnitLayout layout;
  layout.add("weight", {kOut, kIn}, true);
  layout.add("bias", {kOut}, true);
  input_of_plan.units.assign(2, layout);
  config.strata.host_budget_bytes = zero3::smallest_budgets(input_of_plan).host;
  Engine engine(config);
  Sharded<torch::nn::Linear> first = engine.shard(linear(1, kIn, kOut), {.name = "first"});
  Sharded<torch::nn::Linear> second = engine.shard(linear(2, kIn, kOut), {.name = "second"});
  const torch::nn::Linear plain_first = linear(1, kIn, kOut), plain_second = linear(2, kIn, kOut);
  for (std::uint64_t micro_batch = 0; micro_batch < 2; ++micro_batch) {
    torch::manual_seed(micro_batch);
    const Tensor x = torch::randn({4, kIn});
    const auto loss = [&x](auto& one, auto& other) {
      return (one(x).square() + other(x).sin()).mean();
    };
    engine.backward(loss(first, second));
    torch::nn::Linear one = plain_first, other = plain_second;
    (loss(one, other) / 2).backward();
  }
  ASSERT_TRUE(engine.plan().gradients_on_nvme);
  const std::vector<Tensor> plain = {plain_first->weight, plain_first->bias, plain_second->weight,
                                     plain_second->bias};
  std::size_t seen = 0;
  engine.visit_gradients([&](const std::string& name, const Tensor& gradient) {
    EXPECT_TRUE(torch::equal(gradient, plain[seen++].grad())) << name;
  });
  EXPECT_EQ(seen, plain.size());
  EXPECT_NEAR(engine.step().grad_norm, small::norm_of(plain), 1e-6 * small::norm_of(plain));
}

TEST(EngineStates, AStateDictThatDoesNotFitChangesNothing) {
  Engine engine(on_nvme());
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  const Tensor before = small::weight_of(unit);
  auto state = unit.state_dict();
  state["weight"].zero_();
  torch::OrderedDict<std::string, Tensor> without_bias;
  without_bias.insert("weight", state["weight"]);
  EXPECT_THAT(message_of<UsageError>([&] { unit.load_state_dict(without_bias); }),
              HasSubstr("'bias'"));
  state.insert("other", torch::ones({1}));
  EXPECT_THAT(message_of<UsageError>([&] { unit.load_state_dict(state); }), HasSubstr("'other'"));
  EXPECT_TRUE(torch::equal(small::weight_of(unit), before));
  unit.load_state_dict(without_bias, /*strict=*/false);
  EXPECT_EQ(small::weight_of(unit).abs().max().item<float>(), 0.0f);
}

TEST(EngineStates, AnEditorThatThrowsLeavesWholeParameters) {
  for (const OffloadDevice device : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    Engine engine(config_for(device));
    Sharded unit = engine.shard(linear(1, 40, 40), {.name = "unit"});
    const auto before = unit.state_dict();
    EXPECT_THROW(engine.edit_masters([](const std::string& name, Tensor& value) {
      value.fill_(7);
      if (name == "unit.bias") throw std::runtime_error("stop");
    }),
                 std::runtime_error);
    EXPECT_TRUE(torch::equal(unit.state_dict()["weight"], torch::full({40, 40}, 7.0f)));
    EXPECT_TRUE(torch::equal(unit.state_dict()["bias"], before["bias"]));
  }
}

TEST(EngineStates, AUnitIsNotEnteredInsideAVisitor) {
  Engine engine(on_nvme());
  Sharded a = engine.shard(linear(1), {.name = "a"}), b = engine.shard(linear(2), {.name = "b"});
  const auto visit = [&] {
    a.visit_masters([&](const std::string&, const Tensor&) { std::ignore = b(input()); });
  };
  EXPECT_THAT(message_of<UsageError>(visit), HasSubstr("one after the other"));
  EXPECT_TRUE(train_once(engine, b(a(input())).sum()).updated);
}

TEST(EngineStates, NoBackwardIsMadeInsideAVisitor) {
  Engine engine(on_nvme());
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  const Tensor loss = unit(input()).sum();
  const auto visit = [&] {
    engine.visit_masters([&](const std::string&, const Tensor&) { engine.backward(loss); });
  };
  EXPECT_THAT(message_of<UsageError>(visit), HasSubstr("one after the other"));
  EXPECT_TRUE(train_once(engine, unit(input()).sum()).updated);
}

TEST(EngineStates, VisitorsInsideVisitorsAreRefused) {
  Engine engine(on_nvme());
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  const std::function<void()> visit = [&] {
    engine.visit_masters([&](const std::string&, const Tensor&) { visit(); });
  };
  EXPECT_THAT(message_of<UsageError>(visit), HasSubstr("one after the other"));
  EXPECT_TRUE(train_once(engine, unit(input()).sum()).updated);
}

TEST(LearningRate, IsReadAndSetAndFollowsTheScheduleAgain) {
  formats::DsConfig config = on_nvme();
  config.scheduler.type = formats::SchedulerType::kWarmupLR;
  config.scheduler.warmup_num_steps = 10;
  config.scheduler.warmup_type = formats::WarmupType::kLinear;
  Engine engine(config);
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  const auto step = [&] { return train_once(engine, unit(input()).square().mean()).lr; };
  const double first = engine.lr();
  EXPECT_EQ(step(), first);
  engine.set_lr(0.25);
  EXPECT_EQ(engine.lr(), 0.25);
  EXPECT_EQ(step(), 0.25);
  engine.follow_schedule();
  EXPECT_NE(engine.lr(), 0.25);
  EXPECT_THROW(engine.set_lr(-1.0), ConfigError);
  EXPECT_THROW(engine.set_lr(1.0, "nobody"), UsageError);
}

TEST(LearningRate, GroupsTrainAsTorchsParameterGroups) {
  formats::DsConfig config = on_nvme();
  config.optimizer.weight_decay = 0.1;
  Engine engine(config);
  engine.add_parameter_group({.name = "head", .patterns = {"b.*"}, .lr = 1e-3});
  engine.add_parameter_group(
      {.name = "vectors",
       .matches = [](const std::string&, const auto& shape) { return shape.size() == 1; },
       .lr_scale = 0.5,
       .weight_decay = 0.0});
  Sharded a = engine.shard(linear(1), {.name = "a"}), b = engine.shard(linear(2), {.name = "b"});
  torch::nn::Linear plain_a = linear(1), plain_b = linear(2);
  const auto group = [](std::vector<Tensor> parameters, double lr, double decay) {
    return torch::optim::OptimizerParamGroup(
        std::move(parameters), std::make_unique<torch::optim::AdamWOptions>(
                                   torch::optim::AdamWOptions(lr).weight_decay(decay)));
  };
  torch::optim::AdamW optimizer({group({plain_a->weight}, 1e-2, 0.1),
                                 group({plain_b->weight}, 1e-3, 0.1),
                                 group({plain_a->bias, plain_b->bias}, 0.5e-2, 0.0)});
  for (int step = 0; step < 4; ++step) {
    if (step == 2) {
      engine.set_lr(1e-4, "head");
      static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[1].options()).lr(1e-4);
    }
    train_once(engine, b(a(input())).square().mean());
    optimizer.zero_grad();
    plain_b(plain_a(input())).square().mean().backward();
    optimizer.step();
  }
  EXPECT_EQ(engine.lr("head"), 1e-4);
  engine.follow_schedule("head");
  EXPECT_EQ(engine.lr("head"), 1e-3);
  EXPECT_EQ(engine.lr("vectors"), 0.5e-2);
  EXPECT_TRUE(torch::allclose(small::values_of(a)[0], plain_a->weight, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(small::values_of(a)[1], plain_a->bias, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(small::values_of(b)[0], plain_b->weight, 1e-5, 1e-6));
}

TEST(Engine, AHookBeforeEachUnitCanEndAForward) {
  Engine engine(on_nvme());
  Sharded a = engine.shard(linear(1), {.name = "a"}), b = engine.shard(linear(2), {.name = "b"});
  int entries = 0;
  engine.before_each_unit([&] {
    if (++entries == 2) throw std::runtime_error("interrupted");
  });
  EXPECT_THROW(std::ignore = b(a(input())), std::runtime_error);
  EXPECT_TRUE(train_once(engine, b(a(input())).sum()).updated);
}

TEST(Engine, AHookBeforeEachUnitCanEndABackward) {
  Engine engine(on_nvme());
  Sharded a = engine.shard(linear(1), {.name = "a"}), b = engine.shard(linear(2), {.name = "b"});
  int entries = 0;
  engine.before_each_unit([&] {
    if (++entries == 4) throw std::runtime_error("interrupted");
  });
  const Tensor loss = b(a(input())).sum();
  EXPECT_THROW(engine.backward(loss), std::runtime_error) << "before the backward of a";
  EXPECT_EQ(entries, 4);
  EXPECT_TRUE(train_once(engine, b(a(input())).sum()).updated);
  EXPECT_EQ(entries, 8);
}

TEST(Engine, AHookIsCalledOnceForAnEntryInItsCallersGradMode) {
  Engine engine(on_nvme());
  torch::nn::Linear frozen = linear(1);
  for (Tensor& parameter : frozen->parameters()) parameter.set_requires_grad(false);
  Sharded outer = engine.shard(frozen, {.name = "outer"});
  Sharded inner = engine.shard(linear(2), {.name = "inner"});
  std::vector<bool> grad_modes;
  engine.before_each_unit([&] { grad_modes.push_back(torch::GradMode::is_enabled()); });
  const auto both = [&](Tensor x) { return inner(frozen->forward(x)); };
  std::ignore = outer.run([&](Tensor& x) { return both(x); }, Recompute::kNever, input());
  EXPECT_EQ(std::count(grad_modes.begin(), grad_modes.end(), true),
            static_cast<std::ptrdiff_t>(grad_modes.size()));
  grad_modes.clear();
  std::ignore = outer.run([&](Tensor& x) { return both(x); }, Recompute::kNever, input());
  EXPECT_EQ(grad_modes, std::vector<bool>({true, true}));
  grad_modes.clear();
  const torch::NoGradGuard no_grad;
  std::ignore = inner(input());
  EXPECT_EQ(grad_modes, std::vector<bool>({false}));
}

TEST(Engine, AMicroBatchThatFailsBeforeItsFirstGradientLeavesTheOthersAsTheyAre) {
  const auto train = [](bool with_failure) {
    formats::DsConfig config = on_nvme();
    config.gradient_accumulation_steps = 2;
    Engine engine(config);
    Sharded unit = engine.shard(linear(1), {.name = "unit"});
    engine.backward(unit(input(1)).sum());
    std::ignore = engine.step();
    if (with_failure) {
      engine.before_each_unit([calls = 0]() mutable {
        if (++calls == 2) throw std::runtime_error("interrupted");
      });
      const Tensor loss = unit(input(2)).sum();
      EXPECT_THROW(engine.backward(loss), std::runtime_error);
      engine.before_each_unit({});
    }
    engine.backward(unit(input(3)).sum());
    EXPECT_TRUE(engine.step().updated);
    return small::values_of(unit)[0];
  };
  EXPECT_TRUE(torch::equal(train(true), train(false)));
}

TEST(Engine, TakesNothingFurtherAfterItsMemoryCouldNotBeTaken) {
  formats::DsConfig config = on_nvme();
  config.strata.device_budget_bytes = 2048;
  Engine engine(config);
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  EXPECT_THROW(engine.prepare(), BudgetError);
  const Tensor loss = torch::ones({1}, torch::requires_grad());
  EXPECT_THROW(engine.backward(loss), UsageError);
  EXPECT_THROW(std::ignore = engine.step(), UsageError);
  engine.zero_grad();
  EXPECT_THROW(std::ignore = unit(input()), BudgetError);
}

}  // namespace
}  // namespace strata::engine_states_test
