#include <gtest/gtest.h>

#include "promise/test_device.h"
#include "simulated_accelerator/simulated_accelerator.h"

namespace strata::promise {
namespace {

/// Streams fall behind each other by up to this much, each time another way.
constexpr std::chrono::microseconds kDelayMax{20};

support::SimDeviceOptions options() {
  support::SimDeviceOptions options = simulated::SimulatedAccelerator::roomy();
  options.max_delay = kDelayMax;
  options.seed = static_cast<std::uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  return options;
}

}  // namespace

struct TestDevice::Impl {
  simulated::SimulatedAccelerator accelerator{options()};
};

TestDevice::TestDevice() : impl_(std::make_unique<Impl>()) {}

TestDevice::~TestDevice() {
  for (const support::Race& race : impl_->accelerator.races()) ADD_FAILURE() << race.text;
}

EnginePlace TestDevice::engine_place() {
  return {&impl_->accelerator.device(), simulated::SimulatedAccelerator::torch_device()};
}

zero3::PlanInput TestDevice::plan_input(const formats::DsConfig& config) {
  zero3::PlanInput input = zero3::plan_input_from(config);
  input.device_memory_is_host = false;
  return input;
}

}  // namespace strata::promise
