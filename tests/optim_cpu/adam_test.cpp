#include "strata/optim_cpu/adam.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <ostream>
#include <string>

#include "optim_cpu/kernel_table.h"
#include "optim_cpu/state_arrays.h"
#include "strata/base/error.h"

namespace strata::optim_cpu {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

/// A run of the kernels: formats and hyperparameters.
struct Variant {
  friend void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

  std::string name;
  Precision precision;
  bool gradient_fp32;
  AdamOptions options;
};

std::vector<Variant> all_variants() {
  std::vector<Variant> variants;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16})
    for (const bool gradient_fp32 : {true, false})
      for (const bool decoupled : {true, false})
        variants.push_back({std::string(name_of(precision)) +
                                (gradient_fp32 ? "_fp32_gradient" : "_own_gradient") +
                                (decoupled ? "_adamw" : "_adam_l2"),
                            precision,
                            gradient_fp32,
                            {.lr = 3e-3,
                             .weight_decay = 0.05,
                             .decoupled_weight_decay = decoupled,
                             .bias_correction = decoupled}});
  return variants;
}

class EveryVariant : public ::testing::TestWithParam<Variant> {
 protected:
  void expect_all_targets_equal(std::size_t offset, std::size_t count, float gradient_scale,
                                const std::function<void(StateArrays&)>& fill) {
    const auto& [name, precision, gradient_fp32, options] = GetParam();
    StateArrays expected(precision, gradient_fp32, count);
    fill(expected);
    for (std::int64_t step = 1; step <= 2; ++step)
      adam_update_reference(options, step, gradient_scale, expected.span());
    for (const KernelTable& kernels : supported_kernels()) {
      StateArrays actual(precision, gradient_fp32, count, offset);
      fill(actual);
      for (std::int64_t step = 1; step <= 2; ++step)
        kernels.adam(AdamConstants(options, step, gradient_scale), actual.span());
      EXPECT_TRUE(same_bits(expected, actual))
          << kernels.target << ", " << count << " elements at offset " << offset;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Adam, EveryVariant, ::testing::ValuesIn(all_variants()),
                         [](const auto& test) { return test.param.name; });

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceAtEveryLengthAroundTheVectors) {
  for (std::size_t count = 0; count <= 51; ++count)
    expect_all_targets_equal(0, count, 0.37f,
                             [&](StateArrays& states) { states.fill_plausibly(count); });
}

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceAtEveryAlignment) {
  for (std::size_t offset = 0; offset < 17; ++offset)
    expect_all_targets_equal(offset, 4099, 1.0f,
                             [&](StateArrays& states) { states.fill_plausibly(offset); });
}

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceForUnusualNumbers) {
  using Limits = std::numeric_limits<float>;
  const std::array numbers = {0.0f,
                              -0.0f,
                              1.0f,
                              -1.5f,
                              Limits::denorm_min(),
                              -Limits::denorm_min(),
                              1e-40f,
                              Limits::min(),
                              6e-8f,
                              65519.0f,
                              65520.0f,
                              -1e20f,
                              Limits::max(),
                              Limits::lowest(),
                              Limits::infinity(),
                              -Limits::infinity(),
                              Limits::quiet_NaN(),
                              std::bit_cast<float>(0x7F800001u),
                              std::bit_cast<float>(0xFFFFFFFFu)};
  // Strides without common divisors with the number of numbers walk through all combinations.
  const auto every = [&](std::size_t repeats) {
    return [&numbers, repeats, calls = std::size_t{0}]() mutable {
      return numbers[calls++ / repeats % numbers.size()];
    };
  };
  const std::size_t n = numbers.size();
  expect_all_targets_equal(1, n * n * n * n, 1.0f, [&](StateArrays& states) {
    states.fill(every(1), every(n), every(n * n), every(n * n * n));
  });
}

TEST_P(EveryVariant, GivesTheSameBitsWhereverASpanIsCut) {
  const auto& [name, precision, gradient_fp32, options] = GetParam();
  constexpr std::size_t kCount = 333;
  StateArrays whole(precision, gradient_fp32, kCount);
  whole.fill_plausibly(7);
  adam_update(options, 3, 0.5f, whole.span());
  for (const std::size_t cut : {1u, 15u, 16u, 100u, 332u}) {
    StateArrays parts(precision, gradient_fp32, kCount);
    parts.fill_plausibly(7);
    AdamSpan front = parts.span();
    front.count = cut;
    adam_update(options, 3, 0.5f, front);
    adam_update(options, 3, 0.5f, rest_of(parts.span(), cut));
    EXPECT_TRUE(same_bits(whole, parts)) << "cut at " << cut;
  }
}

/// An updated master, and what its terms would add up to if none of them cancelled.
struct Exact {
  double value;
  double size_of_terms;
};

/// The same update in double from the same start, the gradient as the kernels read it.
std::vector<Exact> update_in_double(const Variant& variant, std::int64_t step,
                                    StateArrays& states) {
  const AdamOptions& o = variant.options;
  const double correction1 = o.bias_correction ? 1 - std::pow(o.beta1, step) : 1;
  const double correction2 = o.bias_correction ? 1 - std::pow(o.beta2, step) : 1;
  const double decay = o.decoupled_weight_decay ? o.lr * o.weight_decay : 0;
  const double l2 = o.decoupled_weight_decay ? 0 : o.weight_decay;
  std::vector<float> gradients(states.count());
  join_master(variant.gradient_fp32 ? Precision::kFp32 : variant.precision,
              states.data(StateKind::kGradient), nullptr, gradients);
  const std::vector<float> masters = states.masters();
  std::vector<Exact> updated(states.count());
  for (std::size_t i = 0; i < updated.size(); ++i) {
    const double p = masters[i];
    const double m = states.span().m[i];
    const double g = gradients[i] + l2 * p;
    const double v = o.beta2 * states.span().v[i] + (1 - o.beta2) * g * g;
    const double rate = o.lr / correction1 / (std::sqrt(v / correction2) + o.eps);
    const double size_of_g = std::abs(double{gradients[i]}) + l2 * std::abs(p);
    updated[i] = {p * (1 - decay) - rate * (o.beta1 * m + (1 - o.beta1) * g),
                  std::abs(p) + rate * (o.beta1 * std::abs(m) + (1 - o.beta1) * size_of_g)};
  }
  return updated;
}

TEST_P(EveryVariant, StaysWithinFloatRoundingOfTheFormulaInDouble) {
  const Variant& variant = GetParam();
  StateArrays states(variant.precision, variant.gradient_fp32, 10'000);
  states.fill_plausibly(11);
  const std::vector<Exact> exact = update_in_double(variant, 5, states);
  adam_update(variant.options, 5, 1.0f, states.span());
  const std::vector<float> after = states.masters();
  // A dozen operations, each half an epsilon off at most.
  constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
  for (std::size_t i = 0; i < exact.size(); ++i)
    EXPECT_NEAR(after[i], exact[i].value, 6 * kEpsilon * exact[i].size_of_terms) << "element " << i;
}

TEST(Adam, MovesEveryParameterByTheLearningRateInTheFirstStep) {
  std::array<float, 3> weights = {1.0f, 1.0f, 1.0f};
  std::array<float, 3> m{};
  std::array<float, 3> v{};
  const std::array<float, 3> gradients = {0.5f, -20.0f, 0.0f};
  adam_update(
      {.lr = 0.125}, 1, 1.0f,
      {Precision::kFp32, true, 3, weights.data(), nullptr, m.data(), v.data(), gradients.data()});
  EXPECT_NEAR(weights[0], 0.875f, 1e-6f);
  EXPECT_NEAR(weights[1], 1.125f, 1e-6f);
  EXPECT_EQ(weights[2], 1.0f);
}

TEST(KernelTargets, LeaveOutNoInstructionSetOfThisMachine) {
  const std::vector<std::string_view> targets = kernel_targets();
  EXPECT_EQ(targets.back(), "SCALAR");
#if defined(__x86_64__) && !defined(__AVX512F__)  // a build for one machine has its best set only
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    EXPECT_THAT(targets, Contains("AVX2"));
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    EXPECT_THAT(targets, Contains("AVX3"));
    EXPECT_EQ(targets.front(), "AVX3");
  }
#elif defined(__aarch64__)
  EXPECT_THAT(targets, Contains("NEON"));
#endif
}

TEST(KernelTargets, AreRefusedByNameWithTheNamesThatExist) {
  try {
    (void)find_kernels("AVX9");
    FAIL() << "an unknown instruction set was accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("AVX9"));
    EXPECT_THAT(error.what(), HasSubstr("SCALAR"));
  }
}

TEST(KernelTargetsDeathTest, AreChosenByTheEnvironment) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";  // a new process: nothing is chosen yet
  for (const std::string_view target : kernel_targets())
    EXPECT_EXIT(
        {
          setenv("STRATA_SIMD", std::string(target).c_str(), 1);
          std::_Exit(kernel_target() == target ? 0 : 1);
        },
        ::testing::ExitedWithCode(0), "")
        << target;
}

}  // namespace
}  // namespace strata::optim_cpu
