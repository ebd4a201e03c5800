#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <barrier>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "simulated_accelerator/simulated_accelerator.h"
#include "simulated_accelerator/small_modules.h"
#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata::simulated::devices_test {
namespace {

using support::message_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

/// Runs `body` on a thread for each device; no device reports a race.
void on_each_device(const std::function<void(c10::Device)>& body) {
  std::vector<std::jthread> threads;
  for (c10::DeviceIndex index = 0; index < kDevicesMax; ++index) {
    threads.emplace_back([&body, index] {
      const SimulatedAccelerator accelerator(SimulatedAccelerator::roomy(), index);
      body(SimulatedAccelerator::torch_device(index));
      EXPECT_THAT(accelerator.races(), IsEmpty());
    });
  }
}

TEST(SeveralSimulatedAccelerators, ComputeAtOnceWithTheBitsOfTheCpu) {
  const auto cpu = seeded<NormedMlp>(1, torch::kFloat);
  const torch::Tensor x = torch::randn({8, 32});
  cpu->forward(x).pow(2).sum().backward();
  std::vector<std::shared_ptr<NormedMlp>> modules;
  for (c10::DeviceIndex index = 0; index < kDevicesMax; ++index) {
    modules.push_back(seeded<NormedMlp>(1, torch::kFloat));
  }
  on_each_device([&](c10::Device device) {
    NormedMlp& module = *modules[static_cast<std::size_t>(device.index())];
    module.to(device);
    module.forward(x.to(device)).pow(2).sum().backward();
    EXPECT_EQ(module.up->weight.grad().device(), device);
    expect_same_bits(gradients_of(*cpu), gradients_of(module));
  });
}

TEST(SeveralSimulatedAccelerators, RunTheirBackwardPassesOnThreadsOfTheirOwn) {
  std::barrier all_have_come(kDevicesMax);
  on_each_device([&](c10::Device device) {
    const torch::Tensor x = torch::full({4}, 3.0f, torch::device(device)).set_requires_grad(true);
    torch::Tensor y = x * x;
    y.register_hook([&](const torch::Tensor& gradient) {
      all_have_come.arrive_and_wait();
      return gradient;
    });
    y.sum().backward();
    EXPECT_EQ(x.grad().sum().item<float>(), 24);
  });
}

TEST(SeveralSimulatedAccelerators, DrawFromGeneratorsOfTheirOwn) {
  torch::manual_seed(5);
  const torch::Tensor expected = torch::rand({100});
  torch::manual_seed(5);  // those of all devices
  on_each_device([&](c10::Device device) {
    const auto options = torch::device(device);
    EXPECT_TRUE(torch::equal(torch::rand({100}, options).cpu(), expected));
    at::Generator generator = at::globalContext().defaultGenerator(device);
    EXPECT_EQ(generator.device(), device);
    const torch::Tensor state = generator.get_state();
    const torch::Tensor next = torch::rand({100}, options).cpu();
    generator.set_state(state);
    EXPECT_TRUE(torch::equal(torch::rand({100}, options).cpu(), next));
  });
}

TEST(SeveralSimulatedAccelerators, TouchNoMemoryOfEachOther) {
  const SimulatedAccelerator first;
  const SimulatedAccelerator second(SimulatedAccelerator::roomy(), 1);
  const torch::Tensor here = torch::ones({4}, torch::device(SimulatedAccelerator::torch_device(0)));
  const torch::Tensor there =
      torch::ones({4}, torch::device(SimulatedAccelerator::torch_device(1)));
  EXPECT_THAT(message_of<c10::Error>([&] { (void)(here + there); }),
              AllOf(HasSubstr("aten::add"), HasSubstr("simulated:0"), HasSubstr("simulated:1")));
  EXPECT_THAT(message_of<c10::Error>([&] { (void)here.to(there.device()); }),
              HasSubstr("know nothing of each other's memory"));
  EXPECT_EQ((here.cpu() + there.cpu()).sum().item<float>(), 8);
}

TEST(SeveralSimulatedAccelerators, AreOneOfEachIndex) {
  const SimulatedAccelerator first;
  EXPECT_THROW(SimulatedAccelerator(SimulatedAccelerator::roomy(), 0), UsageError);
  EXPECT_THROW(SimulatedAccelerator(SimulatedAccelerator::roomy(), kDevicesMax), UsageError);
  {
    const SimulatedAccelerator second(SimulatedAccelerator::roomy(), 1);
    EXPECT_EQ(torch::ones({4}, torch::device(kDeviceType)).device().index(), 1);
  }
  EXPECT_EQ(torch::ones({4}, torch::device(kDeviceType)).device().index(), 0);
}

}  // namespace
}  // namespace strata::simulated::devices_test
