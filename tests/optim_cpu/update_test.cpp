#include "strata/optim_cpu/update.h"

#include <gtest/gtest.h>

#include <limits>

#include "optim_cpu/kernel_table.h"
#include "optim_cpu/state_arrays.h"
#include "optim_cpu/variants.h"

/// \file
/// Every instruction set gives the bits of the reference.

namespace strata::optim_cpu {
namespace {

class EveryVariant : public ::testing::TestWithParam<Variant> {
 protected:
  /// Elements of a span: whole blocks of int8 moments.
  [[nodiscard]] static std::size_t grid() {
    return GetParam().moments == MomentFormat::kInt8 ? kBlock : 1;
  }

  static void expect_all_targets_equal(const StateFormat& format, Precision gradient_format,
                                       std::size_t offset, std::size_t count, float gradient_scale,
                                       const std::function<void(StateArrays&)>& fill) {
    const OptimizerOptions& options = GetParam().optimizer.options;
    StateArrays expected(format, gradient_format, count);
    fill(expected);
    for (std::int64_t step = 1; step <= 2; ++step)
      update_reference(options, {step, gradient_scale}, span_of(expected));
    for (const KernelTable& kernels : supported_kernels()) {
      StateArrays actual(format, gradient_format, count, offset);
      fill(actual);
      for (std::int64_t step = 1; step <= 2; ++step)
        kernels.update(constants_of(options, {step, gradient_scale}), span_of(actual));
      EXPECT_TRUE(same_bits(expected, actual))
          << kernels.target << ", " << count << " elements at offset " << offset;
    }
  }

  /// In the middle of a shard: random rounding depends on the place.
  static UpdateSpan span_of(StateArrays& states) {
    UpdateSpan span = states.span();
    span.first_element = 3 * kBlock;
    span.stream = 5;
    return span;
  }
};

INSTANTIATE_TEST_SUITE_P(Update, EveryVariant, ::testing::ValuesIn(all_variants()),
                         [](const auto& test) { return test.param.name(); });

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceAtEveryLengthAroundTheVectors) {
  for_each_format(GetParam(), [](const StateFormat& format, Precision gradient) {
    for (std::size_t count = 0; count <= 70; ++count)
      expect_all_targets_equal(format, gradient, 0, count * grid(), 0.37f,
                               [&](StateArrays& states) { states.fill_plausibly(count); });
  });
}

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceAtEveryAlignment) {
  for_each_format(GetParam(), [](const StateFormat& format, Precision gradient) {
    for (std::size_t offset = 0; offset < 17; ++offset)
      expect_all_targets_equal(format, gradient, offset, grid() == 1 ? 643 : 640, 1.0f,
                               [&](StateArrays& states) { states.fill_plausibly(offset); });
  });
}

constexpr std::array kFiniteNumbers = {0.0f,
                                       -0.0f,
                                       1.0f,
                                       -1.5f,
                                       std::numeric_limits<float>::denorm_min(),
                                       -std::numeric_limits<float>::denorm_min(),
                                       1e-40f,
                                       std::numeric_limits<float>::min(),
                                       6e-8f,
                                       65519.0f,
                                       65520.0f,
                                       -1e20f,
                                       std::numeric_limits<float>::max(),
                                       std::numeric_limits<float>::lowest()};
constexpr std::array kOtherNumbers = {
    std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
    std::numeric_limits<float>::quiet_NaN(), std::bit_cast<float>(0x7F800001u),
    std::bit_cast<float>(0xFFFFFFFFu)};

/// Functions that walk through all combinations of `numbers`, the moments slowest: a block of int8
/// moments holds the same ones until it is updated.
void fill_with_combinations(StateArrays& states, const std::vector<float>& numbers) {
  const auto every = [&](std::size_t repeats) {
    return [&numbers, repeats, calls = std::size_t{0}]() mutable {
      return numbers[calls++ / repeats % numbers.size()];
    };
  };
  const std::size_t n = numbers.size();
  states.fill(every(1), every(n * n), every(n * n * n), every(n));
}

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceForUnusualNumbers) {
  const std::vector<float> finite(kFiniteNumbers.begin(), kFiniteNumbers.end());
  std::vector<float> all = finite;
  all.insert(all.end(), kOtherNumbers.begin(), kOtherNumbers.end());
  for_each_format(GetParam(), [&](const StateFormat& format, Precision gradient) {
    for (const std::vector<float>& numbers : {finite, all}) {
      const std::size_t combinations =
          numbers.size() * numbers.size() * numbers.size() * (format.has_v ? numbers.size() : 1);
      expect_all_targets_equal(
          format, gradient, 1, (combinations + grid() - 1) / grid() * grid(), 1.0f,
          [&](StateArrays& states) { fill_with_combinations(states, numbers); });
    }
  });
}

TEST_P(EveryVariant, GivesTheSameBitsWhereverASpanIsCut) {
  const OptimizerOptions& options = GetParam().optimizer.options;
  for_each_format(GetParam(), [&](const StateFormat& format, Precision gradient) {
    const std::size_t count = grid() == 1 ? 333 : 320;
    StateArrays whole(format, gradient, count);
    whole.fill_plausibly(7);
    update(options, {3, 0.5f}, span_of(whole));
    for (const std::size_t wanted : {1u, 15u, 64u, 100u, 317u}) {
      const std::size_t cut = format.is_stochastic() ? wanted / kBlock * kBlock : wanted;
      StateArrays parts(format, gradient, count);
      parts.fill_plausibly(7);
      update(options, {3, 0.5f}, part_of(span_of(parts), 0, cut));
      update(options, {3, 0.5f}, rest_of(span_of(parts), cut));
      EXPECT_TRUE(same_bits(whole, parts)) << "cut at " << cut;
    }
  });
}

}  // namespace
}  // namespace strata::optim_cpu
