#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "optim_cpu/kernel_table.h"
#include "optim_cpu/number_values.h"
#include "strata/optim_cpu/convert.h"
#include "support/sanitizer.h"

namespace strata::optim_cpu::accumulate_test {
namespace {

struct Formats {
  Precision precision;
  bool target_fp32;
  bool first;
  std::size_t ranks = 1;
};

std::vector<Formats> all_formats() {
  std::vector<Formats> formats;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16})
    for (const bool target_fp32 : {true, false})
      for (const bool first : {true, false})
        for (const std::size_t ranks : {1u, 2u, 5u})
          formats.push_back({precision, target_fp32, first, ranks});
  return support::of_same_threads(formats, 5);
}

/// Normally distributed numbers, a prime number of them: no two blocks of a gradient are alike.
const std::vector<float>& normal_numbers() {
  static const std::vector<float> numbers = [] {
    std::vector<float> drawn(4093);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& number : drawn) number = normal(random);
    return drawn;
  }();
  return numbers;
}

/// What ranks add in a micro-batch and the sum that it joins, all at some distance from an
/// alignment.
struct Gradients {
  Gradients(const Formats& of, std::size_t count, std::size_t offset = 0)
      : formats(of),
        target_format(of.target_fp32 ? Precision::kFp32 : of.precision),
        elements(count),
        stride((count + offset) * weight_bytes(of.precision)),
        source(stride * of.ranks),
        target((count + offset) * weight_bytes(target_format)),
        at(offset) {
    std::size_t drawn = 0;
    const auto draw = [&] { return normal_numbers()[drawn++ % normal_numbers().size()]; };
    for (std::size_t i = 0; i < count; ++i) {
      write_value(target_format, target_at(), i, 3 * draw());
      for (std::size_t rank = 0; rank < of.ranks; ++rank)
        write_value(of.precision, source_at(rank), i, draw());
    }
  }

  [[nodiscard]] std::byte* source_at(std::size_t rank = 0) {
    return source.data() + rank * stride + at * weight_bytes(formats.precision);
  }
  [[nodiscard]] std::byte* target_at() { return target.data() + at * weight_bytes(target_format); }
  [[nodiscard]] AccumulateSpan span() {
    return {.precision = formats.precision,
            .target_fp32 = formats.target_fp32,
            .first = formats.first,
            .count = elements,
            .source = source_at(),
            .target = target_at(),
            .contributions = formats.ranks,
            .stride = stride};
  }
  SumOfSquares accumulate(int thread_count = 2) { return accumulate(0, elements, thread_count); }
  SumOfSquares accumulate(std::size_t begin, std::size_t count, int thread_count = 2) {
    ComputeThreads threads(thread_count);
    const AccumulateSpan part = part_of(span(), begin, count);
    return accumulate_gradient(threads, formats.precision, formats.target_fp32, formats.first,
                               count, {part.source, formats.ranks, stride}, part.target);
  }
  [[nodiscard]] float value(std::size_t i) { return read_value(target_format, target_at(), i); }

  Formats formats;
  Precision target_format;
  std::size_t elements;
  std::size_t stride;  // bytes
  std::vector<std::byte> source, target;
  std::size_t at;  // elements
};

/// What is to be in the target: the loop that the header speaks of.
float added_in_rank_order(Gradients& before, std::size_t i) {
  const Formats& formats = before.formats;
  float sum = read_value(formats.precision, before.source_at(), i);
  for (std::size_t rank = 1; rank < formats.ranks; ++rank)
    sum += read_value(formats.precision, before.source_at(rank), i);
  if (!formats.first) sum += before.value(i);
  float rounded = 0;  // in the target's format
  write_value(before.target_format, &rounded, 0, sum);
  return read_value(before.target_format, &rounded, 0);
}

TEST(AccumulateGradient, AddsInRankOrderInFp32RoundsOnceAndSumsUpTheSquaresOfWhatItStored) {
  constexpr std::size_t kCount = 40'003;
  for (const Formats& formats : all_formats()) {
    Gradients gradients(formats, kCount);
    Gradients before = gradients;
    const SumOfSquares sum = gradients.accumulate();
    long double squares = 0;
    for (std::size_t i = 0; i < kCount; ++i) {
      ASSERT_EQ(gradients.value(i), added_in_rank_order(before, i)) << formats.ranks;
      const long double stored = gradients.value(i);
      squares += stored * stored;
    }
    EXPECT_TRUE(sum.finite());
    EXPECT_NEAR(sum.value(), static_cast<double>(squares), 1e-14 * static_cast<double>(squares));
  }
}

TEST(AccumulateGradient, GivesTheSameBitsOnEveryInstructionSetLengthAndAlignment) {
  for (const Formats& formats : all_formats())
    for (const std::size_t count : {0u, 1u, 15u, 16u, 63u, 64u, 65u, 128u, 1000u, 32768u})
      for (const std::size_t offset : {0u, 1u, 3u, 8u}) {
        Gradients expected(formats, count);
        std::vector<double> expected_sums(count / kGradientBlockElements + 1);
        supported_kernels().back().accumulate(expected.span(), expected_sums.data());
        for (const KernelTable& kernels : supported_kernels()) {
          Gradients actual(formats, count, offset);
          std::vector<double> sums(expected_sums.size());
          kernels.accumulate(actual.span(), sums.data());
          EXPECT_EQ(sums, expected_sums) << kernels.target << " " << count << "+" << offset;
          const std::size_t bytes = count * weight_bytes(actual.target_format);
          EXPECT_TRUE(
              std::equal(actual.target_at(), actual.target_at() + bytes, expected.target_at()))
              << kernels.target << " " << count << "+" << offset;
        }
      }
}

TEST(AccumulateGradient, GivesTheSameBitsOnEveryNumberOfThreads) {
  constexpr std::size_t kCount = 100'077;
  for (const Formats& formats : all_formats()) {
    Gradients one(formats, kCount);
    const SumOfSquares expected = one.accumulate(1);
    for (const int threads : {2, 4}) {
      Gradients gradients(formats, kCount);
      EXPECT_EQ(gradients.accumulate(threads), expected);
    }
  }
}

TEST(AccumulateGradient, GivesTheSameSumInPiecesOfWholeBlocksInAnyOrder) {
  constexpr std::size_t kCount = 1000 * kGradientBlockElements + 23;
  std::mt19937 random(4);
  for (const Formats& formats : all_formats()) {
    Gradients whole(formats, kCount);
    const SumOfSquares expected = whole.accumulate();
    std::vector<std::pair<std::size_t, std::size_t>> pieces;  // begin, count
    for (std::size_t begin = 0; begin < kCount; begin += pieces.back().second) {
      const std::size_t wanted = kGradientBlockElements * (1 + random() % 300);
      pieces.emplace_back(begin, std::min(wanted, kCount - begin));
    }
    std::shuffle(pieces.begin(), pieces.end(), random);
    Gradients parts(formats, kCount);
    SumOfSquares sum;
    for (const auto& [begin, count] : pieces) sum.add(parts.accumulate(begin, count));
    EXPECT_EQ(sum, expected);
    EXPECT_EQ(parts.target, whole.target);
  }
}

TEST(AccumulateGradient, NoticesASingleValueThatIsNotFinite) {
  using Limits = std::numeric_limits<float>;
  for (const Formats& formats : all_formats())
    for (const float bad : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()})
      for (const std::size_t at : {5u, 32'799u}) {
        Gradients gradients(formats, 32'800);
        write_value(formats.precision, gradients.source_at(formats.ranks - 1), at, bad);
        const SumOfSquares sum = gradients.accumulate();
        EXPECT_FALSE(sum.finite());
        EXPECT_EQ(std::isnan(sum.value()), std::isnan(bad));
      }
}

TEST(AccumulateGradient, NoticesASumThatOverflows) {
  Gradients gradients({Precision::kFp16, false, false}, 40);
  write_value(Precision::kFp16, gradients.source_at(), 33, 60'000);
  write_value(Precision::kFp16, gradients.target_at(), 33, 60'000);
  EXPECT_FALSE(gradients.accumulate().finite());
}

TEST(AccumulateGradient, TakesTheLargestFiniteValuesForFinite) {
  Gradients gradients({Precision::kFp32, true, true}, 100);
  for (std::size_t i = 0; i < 100; ++i)
    write_value(Precision::kFp32, gradients.source_at(), i, std::numeric_limits<float>::max());
  EXPECT_TRUE(gradients.accumulate().finite());
}

}  // namespace
}  // namespace strata::optim_cpu::accumulate_test
