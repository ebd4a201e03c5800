#include "strata/optim_cpu/optimizer.h"

#include <gtest/gtest.h>

#include "optim_cpu/state_arrays.h"
#include "optim_cpu/variants.h"
#include "strata/base/error.h"

/// \file
/// The optimizers over the caller's memory.

namespace strata::optim::optimizer_test {
namespace {

using optim_cpu::all_variants;
using optim_cpu::for_each_format;
using optim_cpu::StateArrays;
using optim_cpu::Variant;

States states_of(StateArrays& arrays) {
  return {.weight = arrays.bytes(StateKind::kWeight),
          .master = arrays.bytes(StateKind::kMaster),
          .m = arrays.bytes(StateKind::kM),
          .v = arrays.bytes(StateKind::kV)};
}

TEST(Optimizer, GivesTheBitsOfTheReferenceOnEveryNumberOfThreads) {
  constexpr std::size_t kCount = 40'000 / 64 * 64;  // more than a thread takes at a time
  for (const Variant& variant : all_variants())
    for_each_format(variant, [&](const StateFormat& format, Precision gradient) {
      if (gradient != format.precision) return;
      StateArrays expected(format, gradient, kCount);
      expected.fill_plausibly(4);
      optim_cpu::UpdateSpan span = expected.span();
      span.sequence = 9;
      optim_cpu::update_reference(variant.optimizer.options, {7, 0.5f}, span);
      for (const int count : {1, 2}) {
        optim_cpu::ComputeThreads threads(count);
        StateArrays actual(format, gradient, kCount);
        actual.fill_plausibly(4);
        const Optimizer optimizer(variant.optimizer.options, format, threads);
        EXPECT_EQ(optimizer.format(), format);
        optimizer.step(7, states_of(actual), actual.bytes(StateKind::kGradient), gradient, 0.5f, 9);
        EXPECT_TRUE(same_bits(expected, actual)) << variant.name();
      }
    });
}

TEST(Optimizer, StartsFromTheValuesItIsGivenAndLearns) {
  optim_cpu::ComputeThreads threads(2);
  StateFormat format = Precision::kBf16;
  format.moments = MomentFormat::kInt8;
  const Adam adam({.lr = 0.05}, format, threads);
  std::vector<float> values(128, 3.0f);
  StateArrays arrays(adam.format(), Precision::kFp32, values.size());
  adam.initialize(values, states_of(arrays));
  EXPECT_EQ(arrays.masters(), values);
  for (std::int64_t step = 1; step <= 300; ++step) {  // the gradient of p^2 / 2
    arrays.set_gradients(arrays.masters());
    adam.step(step, states_of(arrays), arrays.bytes(StateKind::kGradient), Precision::kFp32);
  }
  for (const float value : arrays.masters()) EXPECT_NEAR(value, 0.0f, 0.1f);
}

TEST(Optimizer, RefusesWhatDoesNotFitBeforeItChangesAnything) {
  optim_cpu::ComputeThreads threads(1);
  StateFormat format = Precision::kBf16;
  format.moments = MomentFormat::kInt8;
  Lion lion({}, format, threads);
  StateArrays arrays(lion.format(), Precision::kBf16, 128);
  arrays.fill_plausibly(1);
  StateArrays untouched(lion.format(), Precision::kBf16, 128);
  untouched.fill_plausibly(1);
  const auto gradient = arrays.bytes(StateKind::kGradient);
  const auto step = [&](const States& states, std::size_t gradient_bytes, std::int64_t number) {
    lion.step(number, states, gradient.first(gradient_bytes), Precision::kBf16);
  };
  const States good = states_of(arrays);
  States bad = good;
  bad.m = bad.m.first(127);
  EXPECT_THROW(step(bad, 256, 1), UsageError);
  bad = good;
  bad.v = bad.m;  // Lion keeps no second moment
  EXPECT_THROW(step(bad, 256, 1), UsageError);
  bad = {.weight = good.weight.first(200),
         .master = good.master.first(200),
         .m = good.m.first(100),
         .v = {}};
  EXPECT_THROW(step(bad, 200, 1), UsageError);
  EXPECT_THROW(step(good, 255, 1), UsageError);
  EXPECT_THROW(step(good, 256, 0), UsageError);
  EXPECT_TRUE(same_bits(untouched, arrays));
  EXPECT_NO_THROW(step(good, 256, 1));

  EXPECT_THROW(lion.set_options(AdamOptions{}), UsageError);
  EXPECT_THROW(lion.set_options(LionOptions{.lr = -1}), ConfigError);
  EXPECT_THROW(Lion({.beta1 = 2}, format, threads), ConfigError);
  format.precision = Precision::kFp32;
  format.master = MasterFormat::k24Bit;
  EXPECT_THROW(Lion({}, format, threads), ConfigError);
}

}  // namespace
}  // namespace strata::optim::optimizer_test
