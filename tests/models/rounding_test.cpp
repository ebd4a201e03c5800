#include "models/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "strata/optim_cpu/convert.h"

namespace strata::models::rounding_test {
namespace {

/// All that rounding can meet: ties, both sides of them, subnormals, the largest, infinities, NaN.
torch::Tensor telling_values() {
  torch::manual_seed(1);
  const torch::Tensor ties =
      torch::randint(0x3000, 0x5000, {1000}, torch::kInt32) * 0x10000 + 0x8000;
  const torch::Tensor around = torch::cat({ties - 1, ties, ties + 1}).view(torch::kFloat32);
  using Limits = std::numeric_limits<float>;
  const torch::Tensor special =
      torch::tensor({0.0f, -0.0f, 1.0f, Limits::max(), Limits::denorm_min(), 1e-41f, 65519.9f,
                     65520.0f, Limits::infinity(), Limits::quiet_NaN()});
  return torch::cat({around, -around, special, -special, torch::randn({1000})});
}

class Rounding : public ::testing::TestWithParam<Precision> {};

TEST_P(Rounding, GivesTheBitsThatTheEngineStores) {
  const torch::Tensor masters = telling_values();
  const torch::Tensor rounded = rounded_weight(masters, GetParam());
  torch::Tensor expected = torch::empty_like(rounded);
  optim_cpu::split_master(
      GetParam(), {masters.const_data_ptr<float>(), static_cast<std::size_t>(masters.numel())},
      expected.mutable_data_ptr(), /*master=*/nullptr);

  const torch::Tensor nan = masters.isnan();
  EXPECT_TRUE(torch::equal(rounded.isnan(), nan));
  EXPECT_TRUE(torch::equal(expected.isnan(), nan));
  const auto bits = GetParam() == Precision::kFp32 ? torch::kInt32 : torch::kInt16;
  EXPECT_TRUE(torch::equal(rounded.view(bits).masked_fill(nan, 0),
                           expected.view(bits).masked_fill(nan, 0)));
}

INSTANTIATE_TEST_SUITE_P(All, Rounding,
                         ::testing::Values(Precision::kFp32, Precision::kBf16, Precision::kFp16),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace strata::models::rounding_test
