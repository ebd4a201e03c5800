#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "strata/base/error.h"
#include "zero3/small_engine.h"

/// \file
/// Parameters that are kept in fp32 in a run of 16 bits: strata.keep_fp32.

namespace strata::mixed_precision_test {
namespace {

using formats::OffloadDevice;
using small::config_for;
using small::on_nvme;
using small::train_once;
using testing::ElementsAre;
using testing::HasSubstr;
using tiering::Tier;
using torch::Tensor;

constexpr std::int64_t kNormWidth = 640;  // the norms' numbers are more than one chunk
constexpr std::int64_t kInner = 16;
constexpr int kSteps = 4;

/// Parameters of all four kinds, mixed: norms and others, some of both frozen.
struct BlockImpl : torch::nn::Module {
  torch::nn::Linear up, down;
  torch::nn::LayerNorm before, after;
  BlockImpl()
      : up(kNormWidth, kInner),
        down(kInner, kNormWidth),
        before(torch::nn::LayerNormOptions({kNormWidth})),
        after(torch::nn::LayerNormOptions({kNormWidth})) {
    register_module("norm_before", before);
    register_module("up", up);
    register_module("norm_after", after);
    register_module("down", down);
    const torch::NoGradGuard no_grad;
    for (const Tensor& parameter : {before->weight, before->bias, after->weight, after->bias}) {
      parameter.add_(torch::randn_like(parameter) * 0.1);
    }
    up->bias.set_requires_grad(false);
    after->weight.set_requires_grad(false);
  }
  Tensor forward(const Tensor& x) { return after(x + down(torch::gelu(up(before(x))))); }
};
TORCH_MODULE(Block);

Block block() {
  torch::manual_seed(11);
  return Block();
}

bool is_norm(const std::string& name) { return name.find("norm") != std::string::npos; }

formats::DsConfig with_norms(formats::DsConfig config) {
  config.strata.keep_fp32 = {"norm_*"};
  return config;
}

Tensor batch(int step) {
  torch::manual_seed(100 + static_cast<std::uint64_t>(step));
  return torch::randn({8, kNormWidth});
}

Tensor loss_of(const Tensor& y) { return (y.to(torch::kFloat32) - 0.5).square().mean(); }

/// Mixed precision as it is written by hand: masters in fp32, a model that computes in bf16 but for
/// its norms.
class PlainRun {
 public:
  PlainRun() : optimizer_(small::adamw(masters_->parameters())) {
    for (const auto& item : model_->named_parameters()) {
      if (!is_norm(item.key())) item.value().set_data(item.value().to(torch::kBFloat16));
    }
  }

  double step(int number) {
    model_->zero_grad();
    const auto masters = masters_->named_parameters();
    {
      const torch::NoGradGuard no_grad;
      for (const auto& item : model_->named_parameters()) item.value().copy_(masters[item.key()]);
    }
    loss_of(model_(batch(number).to(torch::kBFloat16))).backward();
    for (const auto& item : model_->named_parameters()) {
      if (!item.value().requires_grad()) continue;
      masters[item.key()].mutable_grad() = item.value().grad().to(torch::kFloat32);
    }
    const double norm = small::norm_of(masters_->parameters());
    optimizer_.step();
    return norm;
  }

  [[nodiscard]] torch::OrderedDict<std::string, Tensor> masters() const {
    return masters_->named_parameters();
  }

 private:
  Block masters_ = block(), model_ = block();
  torch::optim::AdamW optimizer_;
};

StepReport train(Engine& engine, Sharded<Block>& unit, int step) {
  return train_once(engine, loss_of(unit(batch(step))));
}

class ParametersInFp32 : public testing::TestWithParam<OffloadDevice> {
 protected:
  [[nodiscard]] static formats::DsConfig config(Precision precision = Precision::kBf16) {
    return with_norms(config_for(GetParam(), precision));
  }
};
INSTANTIATE_TEST_SUITE_P(Tiers, ParametersInFp32,
                         testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                         OffloadDevice::kNvme));

TEST_P(ParametersInFp32, NormsTrainAsInPlainLibTorch) {
  Engine engine(config());
  Sharded unit = engine.shard(block(), {.name = "h"});
  PlainRun plain;
  for (int step = 0; step < kSteps; ++step) {
    const double expected = plain.step(step);
    EXPECT_NEAR(train(engine, unit, step).grad_norm, expected, 2e-3 * expected) << step;
  }
  const auto state = unit.state_dict();
  for (const auto& item : plain.masters()) {
    const Tensor& ours = state[item.key()];
    const double tolerance = item.key() == "up.bias" ? 2e-3 : 1e-3;  // frozen in bf16
    EXPECT_LT((ours - item.value()).abs().max().item<double>(), tolerance) << item.key();
  }
}

TEST_P(ParametersInFp32, AreFp32WhereTheyAreUsed) {
  Engine engine(config());
  Sharded unit = engine.shard(block(), {.name = "h"});
  const auto check = [&] {
    for (const auto& item : unit->named_parameters()) {
      EXPECT_EQ(item.value().scalar_type(),
                is_norm(item.key()) ? torch::kFloat32 : torch::kBFloat16)
          << item.key();
    }
  };
  unit.with_unsharded(check);
  train(engine, unit, 0);
  check();
  unit.with_unsharded(check);
}

TEST_P(ParametersInFp32, HaveGradientsInFp32) {
  Engine engine(config());
  Sharded unit = engine.shard(block(), {.name = "h"});
  Block plain = block();
  for (const auto& item : plain->named_parameters()) {
    if (!is_norm(item.key())) item.value().set_data(item.value().to(torch::kBFloat16));
  }
  loss_of(plain(batch(0).to(torch::kBFloat16))).backward();
  engine.backward(loss_of(unit(batch(0))));
  std::vector<std::string> seen;
  engine.visit_gradients([&](const std::string& name, const Tensor& gradient) {
    seen.push_back(name);
    const Tensor expected = plain->named_parameters()[name.substr(2)].grad().to(torch::kFloat32);
    EXPECT_TRUE(torch::allclose(gradient, expected, 1e-5, 1e-9)) << name;
  });
  EXPECT_THAT(seen, ElementsAre("h.norm_before.weight", "h.norm_before.bias", "h.up.weight",
                                "h.norm_after.bias", "h.down.weight", "h.down.bias"));
}

TEST_P(ParametersInFp32, InitialValuesAndStateDictsAreExact) {
  Engine engine(config()), other(config());
  Sharded unit = engine.shard(block(), {.name = "h"});
  Block plain = block();
  const auto initial = unit.state_dict();
  ASSERT_EQ(initial.size(), 8u);
  for (const auto& item : plain->named_parameters()) {
    const Tensor expected = item.key() == "up.bias"
                                ? item.value().to(torch::kBFloat16).to(torch::kFloat32)
                                : item.value();
    EXPECT_TRUE(torch::equal(initial[item.key()], expected)) << item.key();
  }
  for (int step = 0; step < 2; ++step) train(engine, unit, step);
  Block fresh = block();
  {
    const torch::NoGradGuard no_grad;
    for (const Tensor& parameter : fresh->parameters()) parameter.zero_();
  }
  Sharded copy = other.shard(fresh, {.name = "h"});
  std::ignore = small::values_of(copy);
  copy.load_state_dict(unit.state_dict());
  const auto expected = unit.state_dict(), actual = copy.state_dict();
  for (const auto& item : expected) {
    EXPECT_TRUE(torch::equal(item.value(), actual[item.key()])) << item.key();
  }
  const std::vector<Tensor> ours = small::values_of(copy), theirs = small::values_of(unit);
  for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(torch::equal(ours[i], theirs[i]));
}

TEST_P(ParametersInFp32, AreInitializedInRegistrationOrder) {
  Engine engine(config());
  std::vector<std::string> order;
  torch::manual_seed(1);
  Block module = block();
  std::map<std::string, Tensor> given;
  Sharded unit = engine.shard(module, {.name = "h", .initializer = [&](auto& name, Tensor& value) {
                                         order.push_back(name.substr(2));
                                         value.copy_(torch::randn(value.sizes()));
                                         given[order.back()] = value.clone();
                                       }});
  EXPECT_THAT(order,
              ElementsAre("norm_before.weight", "norm_before.bias", "up.weight", "up.bias",
                          "norm_after.weight", "norm_after.bias", "down.weight", "down.bias"));
  for (const auto& item : unit.state_dict()) {
    if (item.key() == "up.bias") continue;
    EXPECT_TRUE(torch::equal(item.value(), given[item.key()])) << item.key();
  }
}

TEST_P(ParametersInFp32, AVisitorsChangesAreKept) {
  Engine engine(config());
  Sharded unit = engine.shard(block(), {.name = "h"});
  const double third = 1.0F / 3.0F;  // no number of bf16
  unit.with_unsharded([&] {
    unit->before->weight[600].fill_(third);
    unit->after->weight[3].fill_(third);
  });
  const auto state = unit.state_dict();
  EXPECT_EQ(state["norm_before.weight"][600].item<double>(), third);
  EXPECT_EQ(state["norm_after.weight"][3].item<double>(), third);
  unit.with_unsharded([&] { EXPECT_EQ(unit->before->weight[600].item<double>(), third); });
}

TEST_P(ParametersInFp32, PeakBytesOfEveryTierEqualThePlan) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp16}) {
    for (const int accumulation : {1, 2}) {
      formats::DsConfig given = config(precision);
      given.gradient_accumulation_steps = accumulation;
      Engine engine(given);
      Sharded unit = engine.shard(block(), {.name = "h"});
      for (int step = 0; step < 2 * accumulation; ++step) train(engine, unit, step);
      for (const Tier tier : {Tier::kDevice, Tier::kHost, Tier::kNvme}) {
        EXPECT_EQ(engine.use(tier).peak, engine.plan().total.of(tier)) << name_of(tier);
        EXPECT_EQ(engine.use(tier).used, engine.plan().total.of(tier)) << name_of(tier);
      }
    }
  }
}

TEST_P(ParametersInFp32, TheSmallestBudgetsChangeNoBit) {
  for (const formats::StatesConfig states :
       {formats::StatesConfig{}, {MomentFormat::kInt8, MasterFormat::k24Bit}}) {
    formats::DsConfig given = config();
    given.strata.states = states;
    given.gradient_accumulation_steps = 2;
    const auto run = [](const formats::DsConfig& each, zero3::TierBytes* smallest) {
      Engine engine(each);
      Sharded unit = engine.shard(block(), {.name = "h"});
      Sharded second = engine.shard(block(), {.name = "i"});
      for (int step = 0; step < 2 * kSteps; ++step) {
        train_once(engine, loss_of(second(unit(batch(step)))));
      }
      if (smallest != nullptr) *smallest = zero3::smallest_budgets(engine.plan_input());
      return unit.state_dict();
    };
    zero3::TierBytes smallest;
    const auto expected = run(given, &smallest);
    given.strata.device_budget_bytes = smallest.device;
    given.strata.host_budget_bytes = smallest.host;
    given.strata.nvme_budget_bytes = smallest.nvme;
    const auto actual = run(given, nullptr);
    for (const auto& item : expected) {
      EXPECT_TRUE(torch::equal(item.value(), actual[item.key()])) << item.key();
    }
  }
}

TEST(WhatIsKeptInFp32, PlacementChangesNoBitWithRandomRounding) {
  for (const formats::StatesConfig states :
       {formats::StatesConfig{MomentFormat::kInt8, MasterFormat::kFp32},
        {MomentFormat::kFp32, MasterFormat::k24Bit},
        {MomentFormat::kInt8, MasterFormat::k24Bit},
        {MomentFormat::kBf16, MasterFormat::k24Bit}}) {
    const auto run = [&](OffloadDevice device) {
      formats::DsConfig config = with_norms(config_for(device, Precision::kBf16));
      config.strata.states = states;
      Engine engine(config);
      Sharded unit = engine.shard(block(), {.name = "h"});
      for (int step = 0; step < kSteps; ++step) train(engine, unit, step);
      return unit.state_dict();
    };
    const auto expected = run(OffloadDevice::kNone), actual = run(OffloadDevice::kNvme);
    for (const auto& item : expected) {
      EXPECT_TRUE(torch::equal(item.value(), actual[item.key()])) << item.key();
    }
    // Their masters have all bits, whatever the others rest in.
    const Tensor bits = actual["norm_before.weight"].view(torch::kInt32).bitwise_and(0xFF);
    EXPECT_TRUE(bits.ne(0).any().item<bool>());
  }
}

TEST_P(ParametersInFp32, AUnitOfNothingElseComputesInFp32) {
  formats::DsConfig given = config_for(GetParam(), Precision::kBf16);
  given.strata.keep_fp32 = {"router.*"};
  Engine engine(given);
  Sharded first = engine.shard(small::linear(1), {.name = "first"});
  Sharded router = engine.shard(small::linear(2), {.name = "router"});
  Sharded last = engine.shard(small::linear(3), {.name = "last"});
  torch::nn::Linear plain_first = small::linear(1), plain = small::linear(2),
                    plain_last = small::linear(3);
  plain_first->to(torch::kBFloat16);
  plain_last->to(torch::kBFloat16);
  const Tensor hidden = first(small::input());
  const Tensor routed = router(hidden);
  EXPECT_EQ(hidden.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(routed.scalar_type(), torch::kFloat32);
  const Tensor expected =
      plain(plain_first(small::input().to(torch::kBFloat16)).to(torch::kFloat32));
  EXPECT_TRUE(torch::allclose(routed, expected, 1e-6, 1e-6));
  const StepReport report = train_once(engine, last(routed).to(torch::kFloat32).square().mean());
  plain_last(expected.to(torch::kBFloat16)).to(torch::kFloat32).square().mean().backward();
  std::vector<Tensor> all;
  for (const auto& layer : {plain_first, plain, plain_last}) {
    all.insert(all.end(), {layer->weight, layer->bias});
  }
  EXPECT_NEAR(report.grad_norm, small::norm_of(all), 1e-4 * report.grad_norm);
  const Tensor moved = (small::weight_of(router) - plain->weight).abs();
  EXPECT_NEAR(moved.max().item<double>(), 1e-2, 1e-4);  // the first step of Adam
}

TEST(WhatIsKeptInFp32, HasNoEffectInFp32) {
  Engine engine(with_norms(on_nvme()));
  Sharded unit = engine.shard(block(), {.name = "h"});
  const zero3::UnitLayout& layout = engine.plan_input().units[0];
  EXPECT_EQ(layout.fp32_trainable_count + layout.fp32_frozen_count, 0u);
  train(engine, unit, 0);
  EXPECT_EQ(engine.plan().formats.size(), 1u);
}

TEST(WhatIsKeptInFp32, GoesForBuffersByTheirNames) {
  formats::DsConfig config = on_nvme(Precision::kBf16);
  config.strata.keep_fp32 = {"*.0.*", "1.running_var"};
  Engine engine(config);
  torch::nn::BatchNorm1d first(small::kWidth), second(small::kWidth);
  torch::nn::Sequential layers(first, second, small::linear(1));
  const Tensor running = torch::rand({small::kWidth});
  first->running_mean.copy_(running);
  Sharded unit = engine.shard(layers, {.name = "net"});
  EXPECT_TRUE(torch::equal(first->running_mean, running));
  EXPECT_EQ(first->running_var.scalar_type(), torch::kFloat32);
  EXPECT_EQ(first->num_batches_tracked.scalar_type(), torch::kInt64);
  EXPECT_EQ(second->running_mean.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(second->running_var.scalar_type(), torch::kFloat32);
}

TEST(WhatIsKeptInFp32, ABatchNormTrainsBesideBf16Layers) {
  formats::DsConfig config = on_nvme(Precision::kBf16);
  config.strata.keep_fp32 = {"1.*"};
  Engine engine(config);
  torch::nn::BatchNorm1d norm(small::kWidth);
  Sharded unit =
      engine.shard(torch::nn::Sequential(small::linear(1), norm, small::linear(2)), {.name = "n"});
  for (int step = 0; step < 2; ++step) {
    const StepReport report =
        train_once(engine, unit(small::input()).to(torch::kFloat32).square().mean());
    EXPECT_TRUE(report.updated);
  }
  EXPECT_EQ(norm->num_batches_tracked.item<int>(), 2);
}

TEST(WhatIsKeptInFp32, HoldsWhatFp16CannotHold) {
  const auto shard = [](const formats::DsConfig& config) {
    Engine engine(config);
    Block module = block();
    {
      const torch::NoGradGuard no_grad;
      module->before->weight[7].fill_(1e6);
    }
    return engine.shard(module, {.name = "h"}).state_dict()["norm_before.weight"][7].item<double>();
  };
  const formats::DsConfig config = on_nvme(Precision::kFp16);
  EXPECT_THAT(small::message_of<DataError>([&] { shard(config); }),
              HasSubstr("keep this parameter in fp32"));
  EXPECT_EQ(shard(with_norms(config)), 1e6);
}

}  // namespace
}  // namespace strata::mixed_precision_test
