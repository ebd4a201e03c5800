#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "promise/training_run.h"
#include "strata/zero3/engine.h"

/// \file
/// Promise 1 for units that hold frozen and trainable parameters side by side (LoRA, BitFit): the
/// same bits wherever they rest, and the numbers of a loop in memory.

namespace strata::promise::mixed_units_test {
namespace {

using formats::OffloadDevice;

constexpr std::int64_t kWidth = 40;
constexpr int kLayers = 3, kSteps = 5;

/// A frozen linear layer with a trainable bias and a trainable low-rank update.
struct LoraImpl : torch::nn::Module {
  LoraImpl() {
    base = register_module("base", torch::nn::Linear(kWidth, kWidth));
    down = register_parameter("down", torch::randn({3, kWidth}) * 0.1);
    up = register_parameter("up", torch::randn({kWidth, 3}) * 0.1);
    base->weight.set_requires_grad(false);
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return x + torch::tanh(base(x) + x.matmul(down.t()).matmul(up.t()));
  }
  torch::nn::Linear base{nullptr};
  torch::Tensor down, up;
};
TORCH_MODULE(Lora);

std::vector<Lora> layers() {
  torch::manual_seed(5);
  return {Lora(), Lora(), Lora()};
}

torch::Tensor batch(int step) {
  torch::manual_seed(static_cast<std::uint64_t>(100 + step));
  return torch::randn({6, kWidth});
}

class MixedUnits : public testing::TestWithParam<std::tuple<Precision, bool>> {
 protected:
  enum class Memory { kAmple, kLeast, kSomeWeightsKept, kHalfKept };

  static std::vector<torch::Tensor> train(OffloadDevice parameters, OffloadDevice optimizer,
                                          Memory memory = Memory::kAmple) {
    const auto [precision, recompute] = GetParam();
    ScratchDirectory scratch;
    formats::DsConfig config = nvme_config(scratch.path(), precision);
    config.zero.offload_param.device = parameters;
    config.zero.offload_optimizer.device = optimizer;
    config.strata.recompute = recompute;
    if (memory != Memory::kAmple) {
      zero3::PlanInput input = TestDevice::plan_input(config);
      zero3::UnitLayout layout;
      layout.add("down", {3, kWidth}, true);
      layout.add("up", {kWidth, 3}, true);
      layout.add("base.weight", {kWidth, kWidth}, false);
      layout.add("base.bias", {kWidth}, true);
      input.units.assign(kLayers, layout);
      const zero3::TierBytes least = zero3::smallest_budgets(input);
      config.strata.device_budget_bytes = least.device;
      input.budgets.device = least.device;
      config.strata.host_budget_bytes =
          memory == Memory::kLeast
              ? least.host
              : host_budget_that_keeps(input, memory == Memory::kHalfKept ? 50 : 15);
    }
    TestDevice device;
    Engine engine(config, device.engine_place());
    std::vector<Sharded<Lora>> units;
    for (const Lora& layer : layers()) {
      units.push_back(engine.shard(layer, {.name = std::to_string(units.size())}));
    }
    for (int step = 0; step < kSteps; ++step) {
      torch::Tensor x = batch(step).to(engine.device());
      for (Sharded<Lora>& unit : units) x = unit(x);
      engine.backward(x.to(torch::kFloat32).square().mean());
      engine.step();
    }
    std::vector<torch::Tensor> masters;
    engine.visit_masters(
        [&](const std::string&, const torch::Tensor& value) { masters.push_back(value.clone()); });
    return masters;
  }
};

INSTANTIATE_TEST_SUITE_P(Formats, MixedUnits,
                         testing::Combine(testing::Values(Precision::kFp32, Precision::kBf16),
                                          testing::Bool()),
                         [](const auto& tested) {
                           return std::string(name_of(std::get<0>(tested.param))) +
                                  (std::get<1>(tested.param) ? "_recomputed" : "_kept");
                         });

TEST_P(MixedUnits, HaveTheSameBitsOnEveryTier) {
  const std::vector<torch::Tensor> expected = train(OffloadDevice::kNone, OffloadDevice::kNone);
  for (const OffloadDevice parameters :
       {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    for (const OffloadDevice optimizer :
         {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
      const bool on_nvme = parameters == OffloadDevice::kNvme || optimizer == OffloadDevice::kNvme;
      for (const Memory memory :
           {Memory::kAmple, Memory::kLeast, Memory::kSomeWeightsKept, Memory::kHalfKept}) {
        if (!on_nvme && memory >= Memory::kSomeWeightsKept) continue;  // there is nothing to keep
        const std::vector<torch::Tensor> actual = train(parameters, optimizer, memory);
        ASSERT_EQ(actual.size(), expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
          EXPECT_TRUE(torch::equal(actual[i], expected[i])) << "parameter " << i;
        }
      }
    }
  }
}

class MixedUnitsInFp32 : public MixedUnits {};
INSTANTIATE_TEST_SUITE_P(Formats, MixedUnitsInFp32,
                         testing::Combine(testing::Values(Precision::kFp32), testing::Bool()));

TEST_P(MixedUnitsInFp32, TrainAsInMemory) {
  std::vector<torch::Tensor> trained;
  std::vector<Lora> plain = layers();
  std::vector<torch::Tensor> all;
  for (const Lora& layer : plain) {
    for (const torch::Tensor& parameter : layer->parameters()) {
      all.push_back(parameter);
      if (parameter.requires_grad()) trained.push_back(parameter);
    }
  }
  torch::optim::AdamW optimizer(trained, torch::optim::AdamWOptions(3e-3).weight_decay(0.1));
  for (int step = 0; step < kSteps; ++step) {
    torch::Tensor x = batch(step);
    for (Lora& layer : plain) x = layer(x);
    optimizer.zero_grad();
    x.square().mean().backward();
    torch::nn::utils::clip_grad_norm_(trained, 0.5);
    optimizer.step();
  }
  const std::vector<torch::Tensor> ours = train(OffloadDevice::kNvme, OffloadDevice::kNvme);
  ASSERT_EQ(ours.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(torch::allclose(ours[i], all[i], 1e-5, 1e-6)) << "parameter " << i;
    if (!all[i].requires_grad()) {
      EXPECT_TRUE(torch::equal(ours[i], all[i])) << "frozen parameter " << i;
    }
  }
}

}  // namespace
}  // namespace strata::promise::mixed_units_test
