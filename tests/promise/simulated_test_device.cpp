#include <gtest/gtest.h>

#include "promise/test_device.h"
#include "simulated_accelerator/simulated_accelerator.h"

namespace strata::promise {
namespace {

/// Streams fall behind each other by up to this much, each time another way.
constexpr std::chrono::microseconds kDelayMax{20};

support::SimDeviceOptions options(int rank) {
  support::SimDeviceOptions options = simulated::SimulatedAccelerator::roomy();
  options.max_delay = kDelayMax;
  options.seed = static_cast<std::uint64_t>(testing::UnitTest::GetInstance()->random_seed() + rank);
  return options;
}

}  // namespace

struct TestDevice::Impl {
  explicit Impl(int rank)
      : accelerator(options(rank), static_cast<c10::DeviceIndex>(rank)),
        torch_device(
            simulated::SimulatedAccelerator::torch_device(static_cast<c10::DeviceIndex>(rank))) {}

  simulated::SimulatedAccelerator accelerator;
  c10::Device torch_device;
};

TestDevice::TestDevice(int rank) : impl_(std::make_unique<Impl>(rank)) {}

TestDevice::~TestDevice() {
  for (const support::Race& race : impl_->accelerator.races()) ADD_FAILURE() << race.text;
}

EnginePlace TestDevice::engine_place() {
  return {&impl_->accelerator.device(), impl_->torch_device};
}

zero3::PlanInput TestDevice::plan_input(const formats::DsConfig& config) {
  zero3::PlanInput input = zero3::plan_input_from(config);
  input.device_memory_is_host = false;
  return input;
}

}  // namespace strata::promise
