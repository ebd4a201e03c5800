#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "zero3/small_engine.h"

/// \file
/// Unused parameters are left out of a step, as in torch's optimizers: compared with them on
/// mixtures of experts.

namespace strata::missing_gradients_test {
namespace {

using small::config_for;
using small::linear;
using small::on_nvme;
using small::train_once;
using small::values_of;
using torch::Tensor;

void expect_close(const std::vector<Tensor>& ours, const std::vector<Tensor>& theirs) {
  ASSERT_EQ(ours.size(), theirs.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    EXPECT_TRUE(torch::allclose(ours[i], theirs[i], 1e-5, 1e-6)) << "parameter " << i;
  }
}

struct TwoPathsImpl : torch::nn::Module {
  explicit TwoPathsImpl(std::uint64_t seed)
      : left(register_module("left", linear(seed))),
        right(register_module("right", linear(seed + 1))) {}
  Tensor forward(const Tensor& x, bool use_left, bool use_right) {
    Tensor y = x;
    if (use_left) y = y + left(x);
    if (use_right) y = y + right(x);
    return y;
  }
  torch::nn::Linear left, right;
};
TORCH_MODULE(TwoPaths);

class MissingGradients : public testing::TestWithParam<formats::OffloadDevice> {};
INSTANTIATE_TEST_SUITE_P(Tiers, MissingGradients,
                         testing::Values(formats::OffloadDevice::kNone,
                                         formats::OffloadDevice::kCpu,
                                         formats::OffloadDevice::kNvme));

TEST_P(MissingGradients, OfPartsOfAUnitLeaveThoseOut) {
  formats::DsConfig config = config_for(GetParam());
  config.optimizer.weight_decay = 0.1;
  Engine engine(config);
  TwoPaths plain(1);
  Sharded unit = engine.shard(TwoPaths(1), {.name = "unit"});
  torch::optim::AdamW optimizer = small::adamw(plain->parameters(), 0.1);
  const bool left[] = {true, false, true, true, false, true};
  const bool right[] = {false, true, true, false, true, true};
  for (int step = 0; step < 6; ++step) {
    const Tensor x = small::input(static_cast<std::uint64_t>(step));
    train_once(engine, unit(x, left[step], right[step]).square().mean());
    optimizer.zero_grad();
    plain(x, left[step], right[step]).square().mean().backward();
    optimizer.step();
  }
  std::vector<Tensor> theirs;
  for (const Tensor& parameter : plain->parameters()) theirs.push_back(parameter.detach());
  expect_close(values_of(unit), theirs);
}

TEST_P(MissingGradients, OfExpertsLeaveThemOutAndCountTheirOwnSteps) {
  constexpr int kExperts = 6, kSteps = 20;
  for (const int accumulation : {1, 3}) {
    formats::DsConfig config = config_for(GetParam());
    config.optimizer.weight_decay = 0.1;
    config.gradient_accumulation_steps = accumulation;
    Engine engine(config);
    std::vector<Sharded<torch::nn::Linear>> experts;
    std::vector<torch::nn::Linear> plain;
    std::vector<Tensor> parameters;
    for (int i = 0; i < kExperts; ++i) {
      const auto seed = static_cast<std::uint64_t>(i);
      experts.push_back(engine.shard(linear(seed), {.name = "expert." + std::to_string(i)}));
      plain.push_back(linear(seed));
      for (const Tensor& parameter : plain.back()->parameters()) parameters.push_back(parameter);
    }
    torch::optim::AdamW optimizer = small::adamw(parameters, 0.1);
    std::mt19937 random(5);
    for (int step = 0; step < kSteps; ++step) {
      optimizer.zero_grad();
      for (int micro = 0; micro < accumulation; ++micro) {
        // The last expert is first chosen late.
        const auto chosen = random() % (step < kSteps / 2 ? kExperts - 1 : kExperts);
        const Tensor x = small::input(random());
        engine.backward(experts[chosen](x).square().mean());
        engine.step();
        (plain[chosen](x).square().mean() / accumulation).backward();
      }
      optimizer.step();
    }
    for (int i = 0; i < kExperts; ++i) {
      std::vector<Tensor> theirs;
      for (const Tensor& parameter : plain[i]->parameters()) theirs.push_back(parameter.detach());
      expect_close(values_of(experts[i]), theirs);
    }
  }
}

TEST(MissingGradients, AStepWithoutAnyUpdatesNothing) {
  formats::DsConfig config = on_nvme();
  config.gradient_accumulation_steps = 2;
  Engine engine(config);
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  const Tensor before = small::weight_of(unit);
  engine.skip_micro_batch();
  EXPECT_FALSE(engine.step().updated);
  engine.skip_micro_batch();
  const StepReport report = engine.step();
  EXPECT_FALSE(report.updated);
  EXPECT_EQ(report.step, 0);
  EXPECT_TRUE(torch::equal(small::weight_of(unit), before));
}

TEST(MissingGradients, AMicroBatchCanBeSkippedAndAStepTakenEarly) {
  formats::DsConfig config = on_nvme();
  config.gradient_accumulation_steps = 3;
  Engine engine(config);
  torch::nn::Linear plain = linear(1);
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  engine.backward(unit(small::input(1)).square().mean());
  engine.step();
  engine.skip_micro_batch();
  EXPECT_FALSE(engine.step().updated);
  engine.backward(unit(small::input(2)).square().mean());
  const double skipped = engine.step().grad_norm;
  (plain(small::input(1)).square().mean() / 3).backward();
  (plain(small::input(2)).square().mean() / 3).backward();
  EXPECT_NEAR(skipped, small::norm_of(plain->parameters()), 1e-6 * skipped);

  Engine early(config);
  Sharded other = early.shard(linear(1), {.name = "unit"});
  for (const std::uint64_t seed : {1, 2}) {
    early.backward(other(small::input(seed)).square().mean());
    if (seed == 1) {
      EXPECT_FALSE(early.step().updated);
    }
  }
  const StepReport report = early.step_now();
  EXPECT_TRUE(report.updated);
  EXPECT_NEAR(report.grad_norm, skipped, 1e-9);
  EXPECT_TRUE(torch::equal(small::weight_of(other), small::weight_of(unit)));
}

}  // namespace
}  // namespace strata::missing_gradients_test
