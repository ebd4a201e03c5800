#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <optional>
#include <sstream>

#include "strata/base/error.h"
#include "zero3/small_engine.h"

/// \file
/// Changes of parameters behind the engine's back work as in LibTorch or are refused by
/// name.

namespace strata::parameter_changes_test {
namespace {

using formats::OffloadDevice;
using small::config_for;
using small::input;
using small::kWidth;
using small::linear;
using small::message_of;
using small::on_nvme;
using small::train_once;
using small::values_of;
using small::weight_of;
using testing::HasSubstr;
using torch::Tensor;

constexpr OffloadDevice kDevices[] = {OffloadDevice::kNone, OffloadDevice::kCpu,
                                      OffloadDevice::kNvme};
constexpr Precision kPrecisions[] = {Precision::kFp32, Precision::kBf16, Precision::kFp16};

torch::ScalarType type_of(Precision precision) {
  return precision == Precision::kFp32   ? torch::kFloat32
         : precision == Precision::kBf16 ? torch::kBFloat16
                                         : torch::kFloat16;
}

TEST(InitialValues, OfMixedUnitsAreThoseOfTheModuleOnEveryTier) {
  for (const OffloadDevice device : kDevices) {
    for (const std::int64_t width : {std::int64_t{5}, kWidth, std::int64_t{200}}) {
      torch::nn::Sequential module(linear(1, width, width), linear(2, width, width),
                                   linear(3, width, 7));
      for (const auto& item : module->named_parameters()) {
        if (item.value().dim() == 2) item.value().set_requires_grad(false);
      }
      std::vector<Tensor> before;
      for (const Tensor& p : module->parameters()) before.push_back(p.detach().clone());
      Engine engine(config_for(device));
      Sharded unit = engine.shard(module, {.name = "unit"});
      const std::vector<Tensor> after = values_of(unit);
      for (std::size_t i = 0; i < before.size(); ++i) {
        EXPECT_TRUE(torch::equal(after[i], before[i])) << "parameter " << i << ", width " << width;
      }
    }
  }
}

TEST(InitialValues, ThatCannotBeTrainedAreRefusedByName) {
  const auto message = [](double value, Precision precision) {
    Engine engine(on_nvme(precision));
    torch::nn::Linear module = linear(1);
    {
      torch::NoGradGuard no_grad;
      module->bias[3] = value;
    }
    const std::string text =
        message_of<DataError>([&] { std::ignore = engine.shard(module, {.name = "unit"}); });
    // The module is as it was, and the engine goes on.
    EXPECT_EQ(module->weight.numel(), kWidth * kWidth);
    std::ignore = engine.shard(linear(1), {.name = "unit"});
    return text;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message(nan, Precision::kFp32), HasSubstr("unit.bias"));
  EXPECT_THAT(message(1e6, Precision::kFp16),
              testing::AllOf(HasSubstr("unit.bias"), HasSubstr("element 3"), HasSubstr("bf16")));
  EXPECT_THAT(message(3.4e38, Precision::kBf16), HasSubstr("beyond bf16"));
}

TEST(InitialValues, OfAnInitializerFillTheWholeParameter) {
  const auto message = [](const ParameterInitializer& initializer) {
    Engine engine(on_nvme());
    return message_of<Error>([&] {
      std::ignore = engine.shard(linear(1), {.name = "unit", .initializer = initializer});
    });
  };
  EXPECT_THAT(message([](const std::string&, Tensor& value) { value = torch::ones({2}); }),
              testing::AllOf(HasSubstr("unit.weight"), HasSubstr("[2]")));
  EXPECT_THAT(message([](const std::string&, Tensor& value) { value.flatten()[0] = 1; }),
              HasSubstr("every element"));
}

struct OddImpl : torch::nn::Module {
  explicit OddImpl(const Tensor& value) {
    weight = register_parameter("weight", value, value.is_floating_point());
  }
  Tensor forward(const Tensor& x) { return x; }
  Tensor weight;
};
TORCH_MODULE(Odd);

TEST(Shard, RefusesTypesThatFp32CannotHold) {
  Engine engine(on_nvme());
  for (const torch::ScalarType type :
       {torch::kFloat64, torch::kInt32, torch::kInt64, torch::kBool, torch::kComplexFloat}) {
    const auto shard = [&] {
      std::ignore = engine.shard(Odd(torch::ones({4}, type)), {.name = "odd"});
    };
    EXPECT_THAT(message_of<UsageError>(shard), HasSubstr("odd.weight"));
  }
}

TEST(Shard, RefusesParametersThatAreViewsOfOneTensor) {
  struct ViewsImpl : torch::nn::Module {
    ViewsImpl() {
      const Tensor base = torch::randn({8});
      a = register_parameter("a", base.slice(0, 0, 5));
      b = register_parameter("b", base.slice(0, 3, 8));
    }
    Tensor forward(const Tensor& x) { return x; }
    Tensor a, b;
  };
  Engine engine(on_nvme());
  EXPECT_THAT(message_of<UsageError>([&] {
                std::ignore = engine.shard(std::make_shared<ViewsImpl>(), {.name = "views"});
              }),
              testing::AllOf(HasSubstr("views.a"), HasSubstr("views.b")));
  const Tensor base = torch::randn({8});
  std::ignore = engine.shard(Odd(base.slice(0, 0, 5)), {.name = "first"});
  EXPECT_THAT(message_of<UsageError>([&] {
                std::ignore = engine.shard(Odd(base.slice(0, 3, 8)), {.name = "second"});
              }),
              testing::AllOf(HasSubstr("first.weight"), HasSubstr("second.weight")));
  std::ignore = engine.shard(Odd(base.slice(0, 5, 8)), {.name = "third"});
}

TEST(Shard, NamesAreToldApart) {
  Engine engine(on_nvme());
  std::ignore = engine.shard(linear(1), {.name = "a"});
  EXPECT_THAT(message_of<UsageError>([&] { std::ignore = engine.shard(linear(2), {.name = "a"}); }),
              HasSubstr("name"));
  std::ignore = engine.shard(linear(3));
  std::ignore = engine.shard(linear(4));
  std::vector<std::string> names;
  engine.visit_masters([&](const std::string& name, const Tensor&) { names.push_back(name); });
  EXPECT_THAT(names, testing::ElementsAre("a.weight", "a.bias", "weight", "bias", "unit.2.weight",
                                          "unit.2.bias"));
}

TEST(Shard, RefusesABufferOnTheMetaDeviceAndAUnitWithoutElements) {
  struct MetaImpl : torch::nn::Module {
    MetaImpl() {
      weight = register_parameter("weight", torch::ones({4}));
      mask = register_buffer("mask", torch::empty({4}, torch::kMeta));
    }
    Tensor forward(const Tensor& x) { return x; }
    Tensor weight, mask;
  };
  Engine engine(on_nvme());
  EXPECT_THAT(message_of<UsageError>([&] {
                std::ignore = engine.shard(std::make_shared<MetaImpl>(), {.name = "unit"});
              }),
              HasSubstr("unit.mask"));
  EXPECT_THAT(message_of<UsageError>(
                  [&] { std::ignore = engine.shard(Odd(torch::empty({0})), {.name = "empty"}); }),
              HasSubstr("elements"));
}

TEST(Shard, AnEmptyParameterBesideOthersIsNoTrouble) {
  struct WithEmptyImpl : torch::nn::Module {
    WithEmptyImpl() : layer(register_module("layer", linear(1))) {
      empty = register_parameter("empty", torch::empty({0, 3}));
    }
    Tensor forward(const Tensor& x) { return layer(x); }
    torch::nn::Linear layer;
    Tensor empty;
  };
  for (const OffloadDevice device : kDevices) {
    Engine engine(config_for(device));
    Sharded unit = engine.shard(std::make_shared<WithEmptyImpl>(), {.name = "unit"});
    EXPECT_TRUE(train_once(engine, unit(input()).square().mean()).updated);
  }
}

TEST(Changes, InsideWithUnshardedAreTheParametersOnEveryTier) {
  for (const OffloadDevice device : kDevices) {
    for (const Precision precision : kPrecisions) {
      Engine engine(config_for(device, precision));
      torch::nn::Linear module = linear(1), file = linear(9), other = linear(8);
      file->to(type_of(precision));
      Sharded unit = engine.shard(module, {.name = "unit"});
      std::stringstream saved;
      torch::save(file, saved);
      unit.with_unsharded([&] { torch::load(module, saved); });
      unit.with_unsharded([&] { module->bias.copy_(other->bias); });
      const auto expect_loaded = [&](const Tensor& weight, const Tensor& bias, const char* when) {
        EXPECT_TRUE(torch::equal(weight.to(type_of(precision)), file->weight)) << when;
        EXPECT_TRUE(torch::allclose(bias, other->bias, 1e-2, 1e-3)) << when;
      };
      expect_loaded(values_of(unit)[0], values_of(unit)[1], "at once");
      // A step with a rate of nothing reads and writes everything.
      engine.set_lr(0.0);
      const Tensor y = unit(input().to(type_of(precision)));
      EXPECT_TRUE(train_once(engine, y.to(torch::kFloat32).square().mean()).updated);
      expect_loaded(values_of(unit)[0], values_of(unit)[1], "after a step");
      EXPECT_EQ(module->bias.storage_offset(), 576) << "the engine's own view again";
    }
  }
}

TEST(Changes, AnArchiveInFp32IsNotTakenFor16BitNumbers) {
  Engine engine(on_nvme(Precision::kBf16));
  torch::nn::Linear module = linear(1);
  Sharded unit = engine.shard(module, {.name = "unit"});
  const Tensor before = weight_of(unit);
  std::stringstream saved;
  torch::save(linear(9), saved);
  EXPECT_THAT(
      message_of<UsageError>([&] { unit.with_unsharded([&] { torch::load(module, saved); }); }),
      testing::AllOf(HasSubstr("unit.weight"), HasSubstr("load_state_dict")));
  EXPECT_TRUE(torch::equal(weight_of(unit), before));
}

TEST(Changes, OfOneElementKeepTheOtherMasters) {
  Engine engine(on_nvme(Precision::kBf16));
  torch::nn::Linear module = linear(1);
  Sharded unit = engine.shard(module, {.name = "unit"});
  const Tensor before = *unit.state_dict().find("weight");
  unit.with_unsharded([&] { module->weight[2][3] = 5.0; });
  Tensor expected = before.clone();
  expected[2][3] = 5.0;
  EXPECT_TRUE(torch::equal(*unit.state_dict().find("weight"), expected));
}

TEST(Changes, ThroughDataAndAccessorsAreFoundToo) {
  for (const OffloadDevice device : kDevices) {
    for (const Precision precision : kPrecisions) {
      Engine engine(config_for(device, precision));
      // The weight is half of the flat vector.
      torch::nn::Linear module = linear(1, 8, 8);
      Sharded unit = engine.shard(module, {.name = "unit"});
      const auto before = unit.state_dict();
      unit.with_unsharded([&] { module->weight.data().view(-1)[0].fill_(5); });
      unit.with_unsharded([&] { std::memset(module->bias.data_ptr(), 0, 2); });
      unit.with_unsharded([&] { module->weight[1].fill_(0.5); });
      Tensor expected = before["weight"].clone();
      expected[0][0] = 5;
      expected[1].fill_(0.5);
      EXPECT_TRUE(torch::equal(unit.state_dict()["weight"], expected));
      EXPECT_FALSE(torch::equal(unit.state_dict()["bias"], before["bias"]));
    }
  }
}

TEST(Changes, OfABodyThatThrowsAreNotKept) {
  for (const OffloadDevice device : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    Engine engine(config_for(device));
    torch::nn::Linear module = linear(1);
    Sharded unit = engine.shard(module, {.name = "unit"});
    const Tensor before = weight_of(unit);
    const auto body = [&](const Tensor& x) -> Tensor {
      torch::NoGradGuard no_grad;
      module->weight.mul_(2);
      throw std::runtime_error("stop");
      return x;
    };
    EXPECT_THROW(std::ignore = unit.run(body, Recompute::kConfig, input()), std::runtime_error);
    EXPECT_TRUE(torch::equal(weight_of(unit), before));
  }
}

TEST(Changes, LoadedWeightsAreUsedInsideTheSameVisit) {
  Engine engine(on_nvme());
  torch::nn::Linear module = linear(1), file = linear(9);
  Sharded unit = engine.shard(module, {.name = "unit"});
  std::stringstream saved;
  torch::save(file, saved);
  unit.with_unsharded([&] {
    torch::load(module, saved);
    EXPECT_TRUE(torch::equal(unit(input()), file(input())));
  });
  EXPECT_TRUE(torch::equal(weight_of(unit), file->weight));
}

TEST(Changes, BetweenForwardAndBackwardAreRefused) {
  for (const bool recompute : {true, false}) {
    formats::DsConfig config = on_nvme();
    config.strata.recompute = recompute;
    Engine engine(config);
    torch::nn::Linear module = linear(1);
    Sharded unit = engine.shard(module, {.name = "unit"});
    const auto loss = [&] { return torch::tanh(unit(input())).sum(); };
    for (int entry = 0; entry < 3; ++entry) {
      const Tensor first = loss(), second = loss();
      train_once(engine, first);
      EXPECT_THAT(message_of<UsageError>([&] { engine.backward(second); }),
                  testing::AllOf(HasSubstr("'unit'"), HasSubstr("weights")));
    }
    const Tensor third = loss();
    unit.with_unsharded([&] { module->weight.fill_(3); });
    EXPECT_THAT(message_of<UsageError>([&] { engine.backward(third); }), HasSubstr("weights"));
    const Tensor fourth = loss();
    unit.with_unsharded([&] {
      module->weight.fill_(4);
      EXPECT_THAT(message_of<UsageError>([&] { engine.backward(fourth); }), HasSubstr("weights"));
    });
    EXPECT_TRUE(train_once(engine, loss()).updated);
  }
}

TEST(Changes, OfFrozenParametersStay) {
  Engine engine(on_nvme());
  torch::nn::Linear module = linear(1);
  module->weight.set_requires_grad(false);
  Sharded unit = engine.shard(module, {.name = "unit"});
  unit.with_unsharded([&] { module->weight.fill_(0.5); });
  train_once(engine, unit(input()).square().mean());
  EXPECT_TRUE(torch::equal(values_of(unit)[0], torch::full({kWidth, kWidth}, 0.5f)));
}

class RefusedChanges : public testing::TestWithParam<OffloadDevice> {};
INSTANTIATE_TEST_SUITE_P(Tiers, RefusedChanges, testing::ValuesIn(kDevices));

TEST_P(RefusedChanges, AreTakenBack) {
  Engine engine(config_for(GetParam()));
  torch::nn::Linear module = linear(1);
  Sharded unit = engine.shard(module, {.name = "unit"});
  const Tensor before = weight_of(unit);
  const auto change = [&](const std::function<void()>& function) {
    return [&unit, function] { unit.with_unsharded(function); };
  };
  EXPECT_THAT(message_of<DataError>(
                  change([&] { module->weight.fill_(std::numeric_limits<float>::infinity()); })),
              HasSubstr("unit.weight"));
  EXPECT_THAT(message_of<UsageError>(change([&] {
                module->weight.set_data(torch::ones({2, 2}));
              })),
              HasSubstr("unit.weight"));
  EXPECT_THROW(change([&] {
                 module->weight.zero_();
                 throw std::runtime_error("stop");
               })(),
               std::runtime_error);
  EXPECT_TRUE(torch::equal(weight_of(unit), before));
}

TEST(Changes, OfAShardedParameterAreRefusedAndTheEngineGoesOn) {
  Engine engine(on_nvme());
  torch::nn::Linear module = linear(1);
  Sharded unit = engine.shard(module, {.name = "unit"});
  const Tensor before = weight_of(unit);
  train_once(engine, unit(input()).sum() * 0.0);
  module->weight.set_data(torch::ones({kWidth, kWidth}));
  EXPECT_THAT(message_of<UsageError>([&] { std::ignore = unit(input()); }),
              testing::AllOf(HasSubstr("unit.weight"), HasSubstr("with_unsharded")));
  EXPECT_TRUE(torch::equal(weight_of(unit), before));
}

TEST(Changes, ByABodyAreRefusedByName) {
  Engine engine(on_nvme());
  torch::nn::Embedding table(torch::nn::EmbeddingOptions(10, 8).max_norm(0.1));
  Sharded unit = engine.shard(table, {.name = "table"});
  const Tensor before = values_of(unit)[0];
  EXPECT_THAT(message_of<UsageError>([&] {
                std::ignore = unit(torch::tensor({1, 2}));
              }),
              testing::AllOf(HasSubstr("table.weight"), HasSubstr("max_norm")));
  EXPECT_TRUE(torch::equal(values_of(unit)[0], before));
}

TEST(Changes, GradientsAndOptimizersOfOthersAreRefusedByName) {
  Engine engine(on_nvme());
  torch::nn::Linear module = linear(1);
  Sharded unit = engine.shard(module, {.name = "unit"});
  torch::optim::SGD other(module->parameters(), 0.1);
  engine.backward(unit(input()).square().mean());
  EXPECT_THAT(
      message_of<c10::Error>([&] { torch::nn::utils::clip_grad_norm_(module->parameters(), 1.0); }),
      HasSubstr("unit.weight"));
  EXPECT_THAT(message_of<c10::Error>([&] { other.step(); }), HasSubstr("unit"));
  EXPECT_THAT(message_of<c10::Error>([&] { std::ignore = module->bias.grad().sum(); }),
              HasSubstr("unit.bias"));
  module->zero_grad();
  EXPECT_TRUE(engine.step().updated);
  module->weight.mutable_grad() = torch::ones({kWidth, kWidth});
  EXPECT_THAT(message_of<UsageError>([&] { std::ignore = unit(input()); }),
              HasSubstr("Engine::backward"));
}

TEST(Changes, AParameterCanBeFrozenForAWhile) {
  Engine engine(on_nvme());
  torch::nn::Linear a = linear(1), b = linear(2), plain_a = linear(1), plain_b = linear(2);
  Sharded unit_a = engine.shard(a, {.name = "a"}), unit_b = engine.shard(b, {.name = "b"});
  std::vector<Tensor> all = plain_a->parameters();
  for (const Tensor& parameter : plain_b->parameters()) all.push_back(parameter);
  torch::optim::AdamW optimizer = small::adamw(all);
  for (int step = 0; step < 6; ++step) {
    const bool train_a = step % 3 != 1, train_bias = step % 2 == 0;
    for (torch::nn::Linear layer : {a, plain_a}) {
      for (const Tensor& parameter : layer->parameters()) parameter.set_requires_grad(train_a);
    }
    for (torch::nn::Linear layer : {b, plain_b}) layer->bias.set_requires_grad(train_bias);
    train_once(engine, unit_b(unit_a(input(step))).square().mean());
    optimizer.zero_grad();
    plain_b(plain_a(input(step))).square().mean().backward();
    optimizer.step();
  }
  EXPECT_TRUE(torch::allclose(values_of(unit_a)[0], plain_a->weight, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(values_of(unit_b)[1], plain_b->bias, 1e-5, 1e-6));
}

TEST(Changes, WhatWasFrozenAtTheStartCannotBeTrained) {
  Engine engine(on_nvme());
  torch::nn::Linear module = linear(1);
  module->weight.set_requires_grad(false);
  Sharded unit = engine.shard(module, {.name = "unit"});
  module->weight.set_requires_grad(true);
  EXPECT_THAT(message_of<UsageError>([&] { std::ignore = unit(input()); }),
              testing::AllOf(HasSubstr("unit.weight"), HasSubstr("frozen")));
  EXPECT_TRUE(train_once(engine, unit(input()).square().mean()).updated);
}

TEST(Aliases, OfParametersAreErrorsWhenTheirMemoryIsGone) {
  for (const OffloadDevice device : kDevices) {
    Engine engine(config_for(device));
    torch::nn::Linear module = linear(1);
    Sharded unit = engine.shard(module, {.name = "unit"});
    Tensor alias;
    unit.with_unsharded([&] { alias = module->weight.detach(); });
    train_once(engine, unit(input()).square().mean());
    EXPECT_THAT(message_of<c10::Error>([&] { std::ignore = alias.sum().item<float>(); }),
                testing::AllOf(HasSubstr("'unit'"), HasSubstr("clone()")));
    EXPECT_TRUE(train_once(engine, unit(input()).square().mean()).updated);
  }
}

TEST(Aliases, AreErrorsAlsoWhileAnOldGraphIsHeld) {
  formats::DsConfig config = on_nvme();
  config.strata.recompute = false;
  Engine engine(config);
  torch::nn::Linear module = linear(1);
  Sharded unit = engine.shard(module, {.name = "unit"});
  Tensor alias;
  unit.with_unsharded([&] { alias = module->weight.t(); });
  const Tensor held = unit(input());
  for (int step = 0; step < 2; ++step) train_once(engine, unit(input()).sum());
  EXPECT_THAT(message_of<c10::Error>([&] { std::ignore = alias.sum().item<float>(); }),
              HasSubstr("clone()"));
}

TEST(Aliases, AReturnedParameterIsACopy) {
  for (const bool recompute : {true, false}) {
    formats::DsConfig config = on_nvme();
    config.strata.recompute = recompute;
    config.strata.device_budget_bytes = small::room_for_one_linear(config);
    Engine engine(config);
    torch::nn::Linear module = linear(1), plain = linear(1);
    Sharded unit = engine.shard(module, {.name = "unit"});
    Sharded other = engine.shard(linear(2), {.name = "other"});
    const Tensor row =
        unit.run([&](const Tensor&) { return module->weight[3]; }, Recompute::kConfig, input());
    std::ignore = other(input());  // evicts the unit
    EXPECT_TRUE(torch::equal(row, plain->weight[3]));
    const double norm = train_once(engine, row.square().sum()).grad_norm;
    plain->weight[3].square().sum().backward();
    EXPECT_NEAR(norm, small::norm_of(plain->parameters()), 1e-6 * norm);
  }
}

TEST(Aliases, NothingIsReadAfterTheEngineIsGone) {
  std::optional<Engine> engine(std::in_place, config_for(OffloadDevice::kNvme));
  torch::nn::Linear module = linear(1);
  Sharded unit = engine->shard(module, {.name = "unit"});
  const Tensor loss = unit(input()).sum();
  engine.reset();
  EXPECT_THAT(message_of<c10::Error>([&] { std::ignore = module->weight.sum().item<float>(); }),
              HasSubstr("engine was gone"));
  EXPECT_THAT(message_of<UsageError>([&] { std::ignore = unit(input()); }), HasSubstr("gone"));
  EXPECT_THAT(message_of<UsageError>([&] { loss.backward(); }), HasSubstr("gone"));
  EXPECT_FALSE(static_cast<bool>(unit));
}

}  // namespace
}  // namespace strata::parameter_changes_test
