#include <ATen/Context.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "simulated_accelerator/simulated_accelerator.h"
#include "simulated_accelerator/small_modules.h"

namespace strata::simulated::modules_test {
namespace {

using testing::IsEmpty;

class ModulesOnTheSimulatedAccelerator : public testing::TestWithParam<torch::ScalarType> {
 protected:
  const c10::Device device_ = SimulatedAccelerator::torch_device();
  SimulatedAccelerator accelerator_;
};

INSTANTIATE_TEST_SUITE_P(Precision, ModulesOnTheSimulatedAccelerator,
                         testing::Values(torch::kFloat, torch::kBFloat16),
                         [](const auto& type) { return std::string(c10::toString(type.param)); });

TEST_P(ModulesOnTheSimulatedAccelerator, ComputeAnMlpForwardAndBackwardWithTheBitsOfTheCpu) {
  const auto cpu = seeded<NormedMlp>(1, GetParam());
  const auto simulated = seeded<NormedMlp>(1, GetParam());
  simulated->to(device_);
  const torch::Tensor x = torch::randn({8, 32}).to(GetParam());
  const torch::Tensor y = torch::randn({8, 32}).to(GetParam());

  const torch::Tensor loss = torch::mse_loss(cpu->forward(x), y);
  const torch::Tensor simulated_loss =
      torch::mse_loss(simulated->forward(x.to(device_)), y.to(device_));
  loss.backward();
  simulated_loss.backward();

  expect_same_bits(loss, simulated_loss);
  expect_same_bits(gradients_of(*cpu), gradients_of(*simulated));
  EXPECT_THAT(accelerator_.races(), IsEmpty());
}

TEST_P(ModulesOnTheSimulatedAccelerator, TrainALanguageModelForThreeStepsWithTheBitsOfTheCpu) {
  const auto cpu = seeded<SmallLlama>(2, GetParam());
  const auto simulated = seeded<SmallLlama>(2, GetParam());
  simulated->to(device_);
  torch::optim::AdamW optimizer(cpu->parameters(), 1e-2);
  torch::optim::AdamW simulated_optimizer(simulated->parameters(), 1e-2);
  const torch::Tensor tokens = torch::randint(SmallLlama::kVocabulary, {2, 16});
  const torch::Tensor targets = torch::randint(SmallLlama::kVocabulary, {2, 16});

  for (int step = 0; step < 3; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    const torch::Tensor loss = cpu->loss(tokens, targets);
    const torch::Tensor simulated_loss = simulated->loss(tokens.to(device_), targets.to(device_));
    optimizer.zero_grad();
    simulated_optimizer.zero_grad();
    loss.backward();
    simulated_loss.backward();
    expect_same_bits(loss, simulated_loss);
    expect_same_bits(gradients_of(*cpu), gradients_of(*simulated));
    optimizer.step();
    simulated_optimizer.step();
  }
  expect_same_bits(cpu->parameters(), simulated->parameters());
  EXPECT_THAT(accelerator_.races(), IsEmpty());
}

/// Chooses the algorithm of attention for as long as it lives.
class FlashAttention {
 public:
  explicit FlashAttention(bool use) : before_(at::globalContext().userEnabledFlashSDP()) {
    at::globalContext().setSDPUseFlash(use);
  }
  ~FlashAttention() { at::globalContext().setSDPUseFlash(before_); }

 private:
  const bool before_;
};

TEST_P(ModulesOnTheSimulatedAccelerator, AttendWithTheBitsOfTheCpuInEitherAlgorithm) {
  for (const bool flash : {false, true}) {
    SCOPED_TRACE(flash);
    const FlashAttention choice(flash);
    const auto cpu = seeded<LlamaBlock>(3, GetParam());
    const auto simulated = seeded<LlamaBlock>(3, GetParam());
    simulated->to(device_);
    const torch::Tensor x = torch::randn({2, 40, LlamaBlock::kWidth}).to(GetParam());

    const torch::Tensor y = cpu->forward(x);
    const torch::Tensor simulated_y = simulated->forward(x.to(device_));
    y.sum().backward();
    simulated_y.sum().backward();
    expect_same_bits(y, simulated_y);
    expect_same_bits(gradients_of(*cpu), gradients_of(*simulated));
  }
}

TEST_P(ModulesOnTheSimulatedAccelerator, DropWhatTheCpuDropsFromTheSameSeed) {
  const torch::Tensor x = torch::randn({64, 32}).to(GetParam());
  torch::Tensor on_cpu = x.detach().clone().set_requires_grad(true);
  torch::Tensor on_device = x.to(device_).set_requires_grad(true);
  torch::manual_seed(4);  // both generators
  const torch::Tensor dropped = torch::dropout(on_cpu, 0.1, /*train=*/true);
  const torch::Tensor simulated = torch::dropout(on_device, 0.1, /*train=*/true);
  dropped.pow(2).sum().backward();
  simulated.pow(2).sum().backward();
  expect_same_bits(dropped, simulated);
  expect_same_bits(on_cpu.grad(), on_device.grad());
}

TEST_P(ModulesOnTheSimulatedAccelerator, MakeTensorsWithTheBitsOfTheCpu) {
  const auto on_cpu = torch::dtype(GetParam());
  const auto on_device = on_cpu.device(device_);
  expect_same_bits(torch::arange(5, on_cpu), torch::arange(5, on_device));
  expect_same_bits(torch::full({3, 4}, 2.5, on_cpu), torch::full({3, 4}, 2.5, on_device));
  expect_same_bits(torch::zeros({2}, on_cpu), torch::zeros({2}, on_device));
  torch::manual_seed(5);
  expect_same_bits(torch::randn({7}, on_cpu), torch::randn({7}, on_device));
}

TEST(RandomNumbersOfTheSimulatedAccelerator, ComeAgainFromASavedState) {
  const SimulatedAccelerator accelerator;
  const auto options = torch::device(SimulatedAccelerator::torch_device());
  at::Generator generator =
      at::globalContext().defaultGenerator(SimulatedAccelerator::torch_device());
  const torch::Tensor state = generator.get_state();
  const torch::Tensor first = torch::rand({5}, options).cpu();
  EXPECT_FALSE(torch::equal(torch::rand({5}, options).cpu(), first));
  generator.set_state(state);
  EXPECT_TRUE(torch::equal(torch::rand({5}, options).cpu(), first));
}

}  // namespace
}  // namespace strata::simulated::modules_test
