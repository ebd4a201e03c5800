#include "promise/test_device.h"

namespace strata::promise {

struct TestDevice::Impl {};

TestDevice::TestDevice(int /*rank*/) {}
TestDevice::~TestDevice() = default;

EnginePlace TestDevice::engine_place() { return {}; }

zero3::PlanInput TestDevice::plan_input(const formats::DsConfig& config) {
  return zero3::plan_input_from(config);
}

}  // namespace strata::promise
