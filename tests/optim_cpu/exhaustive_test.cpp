#include <gtest/gtest.h>
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include "optim_cpu/kernel_table.h"
#include "optim_cpu/number_conversions.h"
#include "optim_cpu/reference_kernels.h"

namespace strata::optim_cpu::exhaustive_test {
namespace {

constexpr std::size_t kPatterns = 1u << 12;  // at a time
constexpr std::size_t kBlocks = (std::size_t{1} << 32) / kPatterns;

/// Calls `check(first)` for blocks of bit patterns that begin at `first`, and counts what it
/// returns: the number of wrong results.
template <class Check>
std::uint64_t count_wrong_in_every_block(const Check& check) {
  std::atomic<std::uint64_t> wrong{0};
  tbb::parallel_for(tbb::blocked_range<std::size_t>(0, kBlocks, 64), [&](const auto& blocks) {
    for (std::size_t block = blocks.begin(); block != blocks.end(); ++block)
      wrong += check(static_cast<std::uint32_t>(block * kPatterns));
  });
  return wrong;
}

/// States of one block, masters aside, that leave every master where it is.
struct StandingStill {
  AdamConstants constants{{.lr = 0}, {}};
  std::array<float, kPatterns> m{}, v{}, gradient{};

  UpdateSpan span(const StateFormat& format, void* weight, void* master) {
    return {.format = format,
            .gradient_format = Precision::kFp32,
            .count = kPatterns,
            .weight = weight,
            .master = master,
            .m = m.data(),
            .v = v.data(),
            .gradient = gradient.data()};
  }
};

TEST(EveryMaster, PassesThroughHiAndLoUnchanged) {
  const std::uint64_t wrong = count_wrong_in_every_block([](std::uint32_t first) {
    std::uint64_t wrong_here = 0;
    for (std::uint32_t bits = first; bits - first < kPatterns; ++bits) {
      const HiLo stored = split_hi_lo(std::bit_cast<float>(bits));
      const std::uint32_t expected = is_nan_bits(bits) ? kQuietNan : bits;
      wrong_here += std::bit_cast<std::uint32_t>(join_hi_lo(stored)) != expected;
    }
    return wrong_here;
  });
  EXPECT_EQ(wrong, 0u);
}

/// All but the last, which is the reference.
std::vector<KernelTable> vector_kernels() {
  const auto tables = supported_kernels();
  return {tables.begin(), tables.end() - 1};
}

class EveryMasterOnTarget : public ::testing::TestWithParam<KernelTable> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(EveryMasterOnTarget);

INSTANTIATE_TEST_SUITE_P(Targets, EveryMasterOnTarget, ::testing::ValuesIn(vector_kernels()),
                         [](const auto& test) { return std::string(test.param.target); });

TEST_P(EveryMasterOnTarget, IsSplitIntoHiAndLoAsTheReferenceDoes) {
  const std::uint64_t wrong = count_wrong_in_every_block([](std::uint32_t first) {
    StandingStill states;
    std::array<std::uint16_t, kPatterns> hi;
    std::array<std::int16_t, kPatterns> lo;
    for (std::uint32_t i = 0; i < kPatterns; ++i) {
      const HiLo stored = split_hi_lo(std::bit_cast<float>(first + i));
      hi[i] = stored.hi;
      lo[i] = stored.lo;
    }
    const auto hi_before = hi;
    const auto lo_before = lo;
    GetParam().adam(states.constants, states.span(Precision::kBf16, hi.data(), lo.data()));
    return static_cast<std::uint64_t>(hi != hi_before || lo != lo_before);
  });
  EXPECT_EQ(wrong, 0u);
}

TEST_P(EveryMasterOnTarget, IsRoundedTo24BitsAsTheReferenceDoes) {
  StateFormat format = Precision::kBf16;
  format.master = MasterFormat::k24Bit;
  const std::uint64_t wrong = count_wrong_in_every_block([&](std::uint32_t first) {
    // A step of SGD from zero weights takes the gradient, with every bit of fp32, for the master.
    std::array<float, kPatterns> gradient;
    for (std::uint32_t i = 0; i < kPatterns; ++i) gradient[i] = std::bit_cast<float>(first + i);
    std::array<std::uint16_t, kPatterns> hi{}, expected_hi{};
    std::array<std::int8_t, kPatterns> lo{}, expected_lo{};
    const auto span = [&](auto& weight, auto& master) {
      return UpdateSpan{.format = format,
                        .gradient_format = Precision::kFp32,
                        .count = kPatterns,
                        .weight = weight.data(),
                        .master = master.data(),
                        .m = nullptr,
                        .v = nullptr,
                        .gradient = gradient.data(),
                        .first_element = first};
    };
    const SgdConstants negate({.lr = -1}, {});
    GetParam().sgd(negate, span(hi, lo));
    reference::update(negate, span(expected_hi, expected_lo));
    return static_cast<std::uint64_t>(hi != expected_hi || lo != expected_lo);
  });
  EXPECT_EQ(wrong, 0u);
}

TEST_P(EveryMasterOnTarget, IsRoundedToFp16AsTheReferenceDoes) {
  const std::uint64_t wrong = count_wrong_in_every_block([](std::uint32_t first) {
    StandingStill states;
    std::array<float, kPatterns> masters;
    std::array<std::uint16_t, kPatterns> weights;
    for (std::uint32_t i = 0; i < kPatterns; ++i) masters[i] = std::bit_cast<float>(first + i);
    GetParam().adam(states.constants,
                    states.span(Precision::kFp16, weights.data(), masters.data()));
    std::uint64_t wrong_here = 0;
    for (std::uint32_t i = 0; i < kPatterns; ++i)
      wrong_here += weights[i] != to_fp16(std::bit_cast<float>(first + i));
    return wrong_here;
  });
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace strata::optim_cpu::exhaustive_test
