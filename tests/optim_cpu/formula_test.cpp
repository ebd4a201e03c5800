#include "optim_cpu/formula.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "optim_cpu/state_arrays.h"
#include "optim_cpu/variants.h"
#include "strata/base/error.h"

/// \file
/// The update is the formula's, within the rounding of fp32.

namespace strata::optim_cpu::formula_test {
namespace {

class EveryOptimizer : public ::testing::TestWithParam<NamedOptimizer> {
 protected:
  [[nodiscard]] static StateFormat format_of(Precision precision, const OptimizerOptions& options) {
    StateFormat format = precision;
    format.has_m = optim::keeps_m(options);
    format.has_v = optim::keeps_v(options);
    return format;
  }

  /// The largest error of an update's masters, in units in the last place of fp32 at the size of
  /// the terms that they are made of.
  [[nodiscard]] static double worst_ulps(const OptimizerOptions& options, Precision precision,
                                         std::int64_t step) {
    StateArrays states(format_of(precision, options), precision, 10'000);
    states.fill_plausibly(static_cast<std::uint64_t>(step));
    std::vector<float> gradients(states.count());
    join_master(precision, states.data(StateKind::kGradient), nullptr, gradients);
    const std::vector<float> before = states.masters();
    const StateArrays::Moments moments = states.moments();
    update(options, {.step = step}, states.span());
    const std::vector<float> after = states.masters();
    double worst = 0;
    for (std::size_t i = 0; i < after.size(); ++i) {
      const Exact exact = update_in_double(options, static_cast<double>(step),
                                           {before[i], gradients[i], moments.m[i], moments.v[i]});
      const double ulp = exact.size_of_terms * std::numeric_limits<float>::epsilon();
      worst = std::max(worst, std::abs(after[i] - exact.element.p) / ulp);
    }
    return worst;
  }
};

INSTANTIATE_TEST_SUITE_P(Update, EveryOptimizer, ::testing::ValuesIn(all_optimizers()),
                         [](const auto& test) { return test.param.name; });

TEST_P(EveryOptimizer, StaysWithinFloatRoundingOfTheFormulaInDouble) {
  // 2^24 + 1 has no fp32; at the last one every power of a beta is zero.
  for (const std::int64_t step : {std::int64_t{1}, std::int64_t{5}, std::int64_t{1000},
                                  (std::int64_t{1} << 24) + 1, std::int64_t{1} << 40})
    for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
      const double worst = worst_ulps(GetParam().options, precision, step);
      std::printf("step %lld, %s: %.2f ulp\n", static_cast<long long>(step),
                  std::string(name_of(precision)).c_str(), worst);
      EXPECT_LT(worst, 4.0) << "step " << step << ", " << name_of(precision);
    }
}

/// The options with a learning rate of 0.
OptimizerOptions standing_still(OptimizerOptions options) {
  std::visit([](auto& given) { given.lr = 0; }, options);
  return options;
}

TEST_P(EveryOptimizer, LeavesEveryMasterWhereItIsAtALearningRateOfZero) {
  const OptimizerOptions options = standing_still(GetParam().options);
  for (StateFormat format : all_masters())
    for (const MomentFormat moments :
         {MomentFormat::kFp32, MomentFormat::kBf16, MomentFormat::kInt8}) {
      format.moments = moments;
      format.has_m = optim::keeps_m(options);
      format.has_v = optim::keeps_v(options);
      StateArrays states(format, format.precision, 640);
      states.fill_plausibly(3);
      const std::vector<float> before = states.masters();
      for (std::int64_t step = 1; step <= 50; ++step) update(options, {step}, states.span());
      EXPECT_EQ(states.masters(), before) << master_name(format) << " " << name_of(moments);
    }
}

TEST(Adam, MovesEveryParameterByTheLearningRateInTheFirstStep) {
  std::array<float, 3> weights = {1.0f, 1.0f, 1.0f};
  std::array<float, 3> m{};
  std::array<float, 3> v{};
  const std::array<float, 3> gradients = {0.5f, -20.0f, 0.0f};
  update(AdamOptions{.lr = 0.125}, {},
         {.format = Precision::kFp32,
          .gradient_format = Precision::kFp32,
          .count = 3,
          .weight = weights.data(),
          .master = nullptr,
          .m = m.data(),
          .v = v.data(),
          .gradient = gradients.data()});
  EXPECT_NEAR(weights[0], 0.875f, 1e-6f);
  EXPECT_NEAR(weights[1], 1.125f, 1e-6f);
  EXPECT_EQ(weights[2], 1.0f);
}

TEST(OptimizerOptions, AreRefusedOutsideTheRangesOfTheirFormulas) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<OptimizerOptions> bad = {
      AdamOptions{.lr = -1},
      AdamOptions{.lr = kNan},
      AdamOptions{.beta1 = 1},
      AdamOptions{.beta2 = -0.1},
      AdamOptions{.eps = -1},
      AdamOptions{.weight_decay = -1},
      SgdOptions{.momentum = -0.5},
      SgdOptions{.nesterov = true},
      SgdOptions{.momentum = 0.9, .dampening = 0.1, .nesterov = true},
      AdagradOptions{.lr_decay = -1},
      AdagradOptions{.eps = HUGE_VAL},
      LionOptions{.beta2 = 1.5},
      LionOptions{.lr = HUGE_VAL}};
  for (const OptimizerOptions& options : bad) EXPECT_THROW(optim::check(options), ConfigError);
  for (const NamedOptimizer& optimizer : all_optimizers()) {
    EXPECT_NO_THROW(optim::check(optimizer.options)) << optimizer.name;
  }
}

}  // namespace
}  // namespace strata::optim_cpu::formula_test
