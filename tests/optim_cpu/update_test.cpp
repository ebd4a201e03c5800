#include "strata/optim_cpu/update.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <variant>

#include "optim_cpu/kernel_table.h"
#include "optim_cpu/state_arrays.h"
#include "optim_cpu/variants.h"
#include "support/sanitizer.h"

/// \file
/// Every instruction set gives the bits of the reference.

namespace strata::optim_cpu::update_test {
namespace {

class EveryVariant : public ::testing::TestWithParam<Variant> {
 protected:
  /// Elements of a span: whole blocks of int8 moments.
  [[nodiscard]] static std::size_t grid() {
    return GetParam().moments == MomentFormat::kInt8 ? kBlock : 1;
  }

  static void expect_all_targets_equal(const StateFormat& format, Precision gradient_format,
                                       std::size_t offset, std::size_t count, float gradient_scale,
                                       const std::function<void(StateArrays&)>& fill,
                                       std::uint64_t first_element = 3 * kBlock) {
    const OptimizerOptions& options = GetParam().optimizer.options;
    StateArrays expected(format, gradient_format, count);
    fill(expected);
    for (std::int64_t step = 1; step <= 2; ++step)
      update_reference(options, {step, gradient_scale}, span_of(expected, first_element));
    for (const KernelTable& kernels : supported_kernels()) {
      StateArrays actual(format, gradient_format, count, offset);
      fill(actual);
      for (std::int64_t step = 1; step <= 2; ++step)
        kernels.update(constants_of(options, {step, gradient_scale}),
                       span_of(actual, first_element));
      EXPECT_TRUE(same_bits(expected, actual))
          << kernels.target << ", " << count << " elements at offset " << offset;
    }
  }

  /// In the middle of a shard: random rounding depends on the place.
  static UpdateSpan span_of(StateArrays& states, std::uint64_t first_element = 3 * kBlock) {
    UpdateSpan span = states.span();
    span.first_element = first_element;
    span.sequence = 5;
    return span;
  }
};

INSTANTIATE_TEST_SUITE_P(Update, EveryVariant, ::testing::ValuesIn(all_variants()),
                         [](const auto& test) { return test.param.name(); });

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceAtEveryLengthAroundTheVectors) {
  for_each_format(GetParam(), [](const StateFormat& format, Precision gradient) {
    // Of elements: beyond a block and two vectors. Of blocks: beyond those that are in work at
    // once.
    for (std::size_t count = 0; count <= (grid() == 1 ? 131 : 9); ++count)
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

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceWhereverASpanLiesInItsShard) {
  for_each_format(GetParam(), [](const StateFormat& format, Precision gradient) {
    for (const std::uint64_t end : {std::uint64_t{1} << 32, std::uint64_t{1} << 38})
      expect_all_targets_equal(
          format, gradient, 0, 3 * kBlock, 1.0f,
          [](StateArrays& states) { states.fill_plausibly(1); }, end - kBlock);
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
  std::vector<std::vector<float>> sets = {finite, all};
  if (support::kAddressSanitizer)
    sets = {std::vector<float>(kOtherNumbers.begin(), kOtherNumbers.end())};
  for_each_format(GetParam(), [&](const StateFormat& format, Precision gradient) {
    for (const std::vector<float>& numbers : sets) {
      const std::size_t combinations =
          numbers.size() * numbers.size() * numbers.size() * (format.has_v ? numbers.size() : 1);
      expect_all_targets_equal(
          format, gradient, 1, (combinations + grid() - 1) / grid() * grid(), 1.0f,
          [&](StateArrays& states) { fill_with_combinations(states, numbers); });
    }
  });
}

/// States as in a training run, but for one number of one of them.
void fill_plausibly_but_for(StateArrays& states, StateKind kind, std::size_t place, float number) {
  BellCurve bell_curve(place);
  const auto next = [&](StateKind of) {
    return
        [&, is_other = of == kind, is_v = of == StateKind::kV, calls = std::size_t{0}]() mutable {
          const float value = 0.02f * bell_curve();
          if (is_other && calls++ == place) return number;
          return is_v ? value * value : value;
        };
  };
  states.fill(next(StateKind::kWeight), next(StateKind::kM), next(StateKind::kV),
              next(StateKind::kGradient));
}

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceForOneUnusualNumberAmongOthers) {
  constexpr std::size_t kCount = 4 * kBlock;  // unusual ones have usual ones before and after them
  // comes to every vector, and to every lane of some
  constexpr std::size_t kStride = support::kAddressSanitizer ? 49 : 7;
  for_each_format(GetParam(), [](const StateFormat& format, Precision gradient) {
    std::size_t turn = 0;
    for (std::size_t place = 0; place < kCount; place += kStride) {
      for (const StateKind kind :
           {StateKind::kWeight, StateKind::kM, StateKind::kV, StateKind::kGradient}) {
        const float number = kOtherNumbers[turn++ % kOtherNumbers.size()];
        expect_all_targets_equal(format, gradient, 0, kCount, 1.0f, [&](StateArrays& states) {
          fill_plausibly_but_for(states, kind, place, number);
        });
      }
    }
  });
}

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceForABlockOfZerosBetweenOthers) {
  for_each_format(GetParam(), [](const StateFormat& format, Precision gradient) {
    expect_all_targets_equal(format, gradient, 0, 3 * kBlock, 1.0f, [](StateArrays& states) {
      const auto next = [calls = std::size_t{0}]() mutable {
        return calls++ / kBlock == 1 ? 0.0f : 0.01f;
      };
      states.fill(next, next, next, next);
    });
  });
}

TEST_P(EveryVariant, GivesTheBitsOfTheReferenceForAnyBytesInMoments) {
  for_each_format(GetParam(), [](const StateFormat& format, Precision gradient) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      expect_all_targets_equal(format, gradient, 0, 4 * kBlock, 1.0f, [&](StateArrays& states) {
        states.fill_plausibly(seed);
        std::mt19937 random(seed);
        for (const StateKind kind : {StateKind::kM, StateKind::kV}) {
          for (std::byte& byte : states.bytes(kind)) byte = static_cast<std::byte>(random());
        }
      });
    }
  });
}

/// The new m is the gradient (SGD), the new root its magnitude (Adagrad): any scale can be had.
TEST(BlockScales, AreThoseOfTheReferenceAtEveryEdgeAndInEveryLane) {
  StateFormat format = Precision::kFp32;
  format.moments = MomentFormat::kInt8;
  const OptimizerOptions rules[] = {SgdOptions{.lr = 1e-3, .momentum = 0.9},
                                    AdagradOptions{.lr = 1e-3}};
  for (const OptimizerOptions& options : rules) {
    format.has_m = std::holds_alternative<SgdOptions>(options);
    format.has_v = !format.has_m;
    for (const std::uint32_t largest :
         {0x00000001u, 0x177FFFFFu, 0x17800000u, 0x3F800000u, 0x3F800001u, 0x3F80FFFFu, 0x3FFFFFFFu,
          0x5F7FFFFFu, 0x7F7F0000u, 0x7F7F0001u, 0x7F7FFFFFu, 0x7F800000u}) {
      for (std::size_t place = 0; place < kBlock; ++place) {
        std::vector<float> gradients(kBlock, 0.0f);
        gradients[place] = std::bit_cast<float>(largest);
        const auto updated = [&](const auto& update) {
          StateArrays states(format, Precision::kFp32, kBlock);
          states.fill([] { return 0.1f; }, [] { return 0.0f; }, [] { return 0.0f; },
                      [] { return 0.0f; });
          states.set_gradients(gradients);
          update(states.span());
          return states;
        };
        StateArrays expected = updated([&](const UpdateSpan& span) {
          update_reference(options, {1, 1.0f}, span);
        });
        for (const KernelTable& kernels : supported_kernels()) {
          StateArrays actual = updated([&](const UpdateSpan& span) {
            kernels.update(constants_of(options, {1, 1.0f}), span);
          });
          EXPECT_TRUE(same_bits(expected, actual))
              << kernels.target << ", " << std::hex << largest << " at " << std::dec << place;
        }
      }
    }
  }
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
}  // namespace strata::optim_cpu::update_test
