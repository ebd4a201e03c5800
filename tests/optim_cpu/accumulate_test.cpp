#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "optim_cpu/kernel_table.h"
#include "optim_cpu/number_values.h"
#include "strata/optim_cpu/convert.h"

namespace strata::optim_cpu {
namespace {

struct Formats {
  Precision precision;
  bool target_fp32;
  bool first;
};

std::vector<Formats> all_formats() {
  std::vector<Formats> formats;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16})
    for (const bool target_fp32 : {true, false})
      for (const bool first : {true, false}) formats.push_back({precision, target_fp32, first});
  return formats;
}

/// A micro-batch's gradient and the sum that it joins, both at some distance from an alignment.
struct Gradients {
  Gradients(const Formats& of, std::size_t count, std::size_t offset = 0)
      : formats(of),
        target_format(of.target_fp32 ? Precision::kFp32 : of.precision),
        elements(count),
        source((count + offset) * weight_bytes(of.precision)),
        target((count + offset) * weight_bytes(target_format)),
        source_at(source.data() + offset * weight_bytes(of.precision)),
        target_at(target.data() + offset * weight_bytes(target_format)) {
    std::mt19937 random(static_cast<std::uint32_t>(count));
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < count; ++i) {
      write_value(of.precision, source_at, i, normal(random));
      write_value(target_format, target_at, i, 3 * normal(random));
    }
  }

  [[nodiscard]] AccumulateSpan span() {
    return {formats.precision, formats.target_fp32, formats.first, elements, source_at, target_at};
  }
  GradientSums accumulate(int thread_count = 2) {
    ComputeThreads threads(thread_count);
    return accumulate_gradient(threads, formats.precision, formats.target_fp32, formats.first,
                               elements, source_at, target_at);
  }
  [[nodiscard]] float value(std::size_t i) const { return read_value(target_format, target_at, i); }

  Formats formats;
  Precision target_format;
  std::size_t elements;
  std::vector<std::byte> source, target;
  std::byte* source_at;
  std::byte* target_at;
};

TEST(AccumulateGradient, AddsInFp32AndSumsUpTheSquaresOfWhatItStored) {
  constexpr std::size_t kCount = 40'003;
  for (const Formats& formats : all_formats()) {
    Gradients gradients(formats, kCount);
    const Gradients before = gradients;
    const GradientSums sums = gradients.accumulate();
    long double squares = 0;
    for (std::size_t i = 0; i < kCount; ++i) {
      const float added = read_value(formats.precision, before.source.data(), i);
      const float held = read_value(gradients.target_format, before.target.data(), i);
      float rounded = 0;  // in the target's format
      write_value(gradients.target_format, &rounded, 0, formats.first ? added : held + added);
      ASSERT_EQ(gradients.value(i), read_value(gradients.target_format, &rounded, 0));
      const long double stored = gradients.value(i);
      squares += stored * stored;
    }
    EXPECT_TRUE(sums.finite);
    EXPECT_NEAR(sums.sum_of_squares, static_cast<double>(squares),
                1e-13 * static_cast<double>(squares));
  }
}

TEST(AccumulateGradient, GivesTheSameBitsOnEveryInstructionSetLengthAndAlignment) {
  for (const Formats& formats : all_formats())
    for (const std::size_t count : {0u, 1u, 15u, 16u, 17u, 31u, 32u, 33u, 1000u, 32768u})
      for (const std::size_t offset : {0u, 1u, 3u, 8u}) {
        Gradients expected(formats, count);
        SumLanes expected_lanes{};
        supported_kernels().back().accumulate(expected.span(), expected_lanes);
        for (const KernelTable& kernels : supported_kernels()) {
          Gradients actual(formats, count, offset);
          SumLanes lanes{};
          kernels.accumulate(actual.span(), lanes);
          EXPECT_EQ(lanes, expected_lanes) << kernels.target << " " << count << "+" << offset;
          const std::size_t bytes = count * weight_bytes(actual.target_format);
          EXPECT_TRUE(std::equal(actual.target_at, actual.target_at + bytes, expected.target_at))
              << kernels.target << " " << count << "+" << offset;
        }
      }
}

TEST(AccumulateGradient, GivesTheSameBitsOnEveryNumberOfThreads) {
  constexpr std::size_t kCount = 2 * kGradientBlockElements + 77;
  for (const Formats& formats : all_formats()) {
    std::vector<std::uint64_t> sums;
    for (const int threads : {1, 2, 4}) {
      Gradients gradients(formats, kCount);
      const GradientSums result = gradients.accumulate(threads);
      sums.push_back(std::bit_cast<std::uint64_t>(result.sum_of_squares));
    }
    EXPECT_EQ(sums[0], sums[1]);
    EXPECT_EQ(sums[0], sums[2]);
  }
}

TEST(AccumulateGradient, GivesTheSameSumInPiecesThatContinueEachOther) {
  constexpr std::size_t kCount = 3 * kGradientBlockElements + 123;
  ComputeThreads threads(2);
  for (const Formats& formats : all_formats()) {
    Gradients whole(formats, kCount);
    const double expected = whole.accumulate().sum_of_squares;
    Gradients pieces(formats, kCount);
    double sum = 0;
    for (std::size_t begin = 0; begin < kCount; begin += 2 * kGradientBlockElements) {
      const std::size_t count = std::min(2 * kGradientBlockElements, kCount - begin);
      const AccumulateSpan piece = part_of(pieces.span(), begin, count);
      sum = accumulate_gradient(threads, formats.precision, formats.target_fp32, formats.first,
                                count, piece.source, piece.target, sum)
                .sum_of_squares;
    }
    EXPECT_EQ(sum, expected);
    EXPECT_EQ(pieces.target, whole.target);
  }
}

TEST(AccumulateGradient, NoticesASingleValueThatIsNotFinite) {
  using Limits = std::numeric_limits<float>;
  for (const Formats& formats : all_formats())
    for (const float bad : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()})
      for (const std::size_t at : {5u, 32'799u}) {
        Gradients gradients(formats, 32'800);
        write_value(formats.precision, gradients.source_at, at, bad);
        const GradientSums sums = gradients.accumulate();
        EXPECT_FALSE(sums.finite);
        EXPECT_EQ(std::isnan(sums.sum_of_squares), std::isnan(bad));
      }
}

TEST(AccumulateGradient, NoticesASumThatOverflows) {
  Gradients gradients({Precision::kFp16, false, false}, 40);
  write_value(Precision::kFp16, gradients.source_at, 33, 60'000);
  write_value(Precision::kFp16, gradients.target_at, 33, 60'000);
  EXPECT_FALSE(gradients.accumulate().finite);
}

TEST(AccumulateGradient, TakesTheLargestFiniteValuesForFinite) {
  Gradients gradients({Precision::kFp32, true, true}, 100);
  for (std::size_t i = 0; i < 100; ++i)
    write_value(Precision::kFp32, gradients.source_at, i, std::numeric_limits<float>::max());
  EXPECT_TRUE(gradients.accumulate().finite);
}

}  // namespace
}  // namespace strata::optim_cpu
