#pragma once

#include <memory>

#include "strata/zero3/engine.h"
#include "strata/zero3/plan.h"

namespace strata::promise {

/// The device of a test program: host memory, or the simulated accelerator. Programs are made of
/// the same tests and linked with one of the two. An engine on it goes first; then the test fails
/// for every pair of accesses that no event ordered. One of each rank lives at a time.
class TestDevice {
 public:
  explicit TestDevice(int rank = 0);
  ~TestDevice();
  TestDevice(const TestDevice&) = delete;
  TestDevice& operator=(const TestDevice&) = delete;

  [[nodiscard]] EnginePlace engine_place();
  /// Makes it as the engine plans it.
  [[nodiscard]] static zero3::PlanInput plan_input(const formats::DsConfig& config);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::promise
