#include "zero3/reduction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <exception>
#include <random>
#include <vector>

#include "strata/base/error.h"
#include "zero3/ranks/one_rank.h"
#include "zero3/shard_map.h"
#include "zero3/thread_world.h"

namespace strata::zero3::reduction_test {
namespace {

// ---- the obvious loop, with conversions of its own ----------------------------------------------

float fp16_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const auto fraction = static_cast<float>(bits & 1023);
  float magnitude = std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 0) magnitude = std::ldexp(fraction, -24);
  if (exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
  return (bits >> 15) != 0 ? -magnitude : magnitude;
}

/// To nearest, ties to even, as std::nearbyint has them.
std::uint16_t fp16_bits(float value) {
  const int sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7E00);
  if (std::isinf(value)) return static_cast<std::uint16_t>(sign | 0x7C00);
  const int exponent = value == 0 ? -14 : std::max(std::ilogb(value), -14);
  const double steps = std::nearbyint(std::ldexp(std::fabs(value), 10 - exponent));
  const double bits = std::ldexp(exponent + 14, 10) + steps;
  return static_cast<std::uint16_t>(sign | static_cast<int>(std::min(bits, 0x7C00 * 1.0)));
}

/// Numbers as they rest in memory.
struct Numbers {
  Numbers(Precision format, std::uint64_t count)
      : precision(format), bytes(count * weight_bytes(format)) {}

  [[nodiscard]] float get(std::uint64_t i) const {
    if (precision == Precision::kFp32) return read<float>(i);
    if (precision == Precision::kFp16) return fp16_value(read<std::uint16_t>(i));
    return std::bit_cast<float>(std::uint32_t{read<std::uint16_t>(i)} << 16);
  }
  void set(std::uint64_t i, float value) {
    if (precision == Precision::kFp32) return write(i, value);
    if (precision == Precision::kFp16) return write(i, fp16_bits(value));
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t half = 0x7FFF + (bits >> 16 & 1);  // to nearest, ties to even
    write(i, static_cast<std::uint16_t>((bits + half) >> 16));
  }

  Precision precision;
  std::vector<std::byte> bytes;

 private:
  template <class T>
  [[nodiscard]] T read(std::uint64_t i) const {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  template <class T>
  void write(std::uint64_t i, T value) {
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
};

struct Case {
  Precision precision;
  bool home_fp32;
  bool first;
  int contributions;    ///< parts of the batch, one for each rank of the world that has most
  std::uint64_t count;  ///< elements of the vector
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16})
    for (const bool home_fp32 : {false, true})
      for (const bool first : {false, true})
        for (const int contributions : {1, 2, 3, 4})
          for (const std::uint64_t count : {1u, 64u, 100u, 40'000u})
            cases.push_back({precision, home_fp32, first, contributions, count});
  return cases;
}

Numbers gradient_of(const Case& of, int rank) {
  Numbers gradient(of.precision, of.count);
  std::mt19937 random(static_cast<std::uint32_t>(17 * rank + 1));
  std::normal_distribution<float> normal;
  for (std::uint64_t i = 0; i < of.count; ++i) gradient.set(i, normal(random));
  return gradient;
}

Numbers home_of(const Case& of) {
  Numbers home(of.home_fp32 ? Precision::kFp32 : of.precision, of.count);
  for (std::uint64_t i = 0; i < of.count; ++i) home.set(i, 0.01f * static_cast<float>(i % 777));
  return home;
}

/// The sum of all ranks' contributions by one loop in memory.
Numbers added_by_loop(const Case& of) {
  std::vector<Numbers> gradients;
  for (int rank = 0; rank < of.contributions; ++rank) gradients.push_back(gradient_of(of, rank));
  Numbers home = home_of(of);
  for (std::uint64_t i = 0; i < of.count; ++i) {
    float sum = gradients[0].get(i);
    for (std::size_t rank = 1; rank < gradients.size(); ++rank) sum += gradients[rank].get(i);
    home.set(i, of.first ? sum : home.get(i) + sum);
  }
  return home;
}

// ---- the same by ranks --------------------------------------------------------------------------

/// A rank's part: packs what it has for every rank's shard, in pieces, and keeps the sum of its own
/// shard. `whole` is where all shards of the home come together, at the end of the test.
optim_cpu::SumOfSquares reduce_as_rank(const Case& of, Ranks& ranks, std::uint64_t piece_elements,
                                       Numbers& whole) {
  const ShardMap map(of.count, ranks.size());
  const std::uint64_t width = weight_bytes(of.precision);
  const std::uint64_t home_width = weight_bytes(whole.precision);
  const Numbers gradient = gradient_of(of, ranks.rank());
  std::vector<std::byte> shard(map.shard_count() * home_width);
  const ElementRange held = map.held(ranks.rank());
  const std::vector<std::byte> before = home_of(of).bytes;
  std::copy_n(before.begin() + static_cast<std::ptrdiff_t>(held.begin * home_width),
              held.count() * home_width, shard.begin());

  optim_cpu::ComputeThreads threads(1);
  optim_cpu::SumOfSquares squares;
  for (std::uint64_t begin = 0; begin < map.shard_count(); begin += piece_elements) {
    const std::uint64_t count = std::min(piece_elements, map.shard_count() - begin);
    const std::uint64_t bytes = count * width * static_cast<std::uint64_t>(ranks.size());
    std::vector<std::byte> packed(bytes);  // zeros where there is padding
    std::vector<std::byte> received(bytes);
    for (int to = 0; to < ranks.size(); ++to) {
      const std::uint64_t from = map.shard(to).begin + begin;
      const ElementRange part = map.part_of({from, std::min(from + count, of.count)}, to);
      std::copy_n(gradient.bytes.begin() + static_cast<std::ptrdiff_t>(part.begin * width),
                  part.count() * width,
                  packed.begin() +
                      static_cast<std::ptrdiff_t>(static_cast<std::uint64_t>(to) * count * width));
    }
    Reduction reduction(ranks, packed, received);
    const std::span home = std::span(shard).subspan(begin * home_width, count * home_width);
    squares.add(reduction.finish(
        {.precision = of.precision, .fp32 = of.home_fp32, .first = of.first, .bytes = home},
        threads));
  }
  std::copy_n(shard.begin(), held.count() * home_width,
              whole.bytes.begin() + static_cast<std::ptrdiff_t>(held.begin * home_width));
  return sum_over(ranks, squares);
}

TEST(Reduction, HasTheBitsOfALoopThatAddsInRankOrderInFp32AndRoundsOnce) {
  for (const Case& each : all_cases()) {
    for (const std::uint64_t piece : {64u, 4096u, 100'032u}) {
      if (each.count / piece > 100) continue;
      Numbers whole = home_of(each);
      std::vector<double> norms(static_cast<std::size_t>(each.contributions));
      const auto thrown = run_ranks({.size = each.contributions}, [&](Ranks& ranks) {
        norms[static_cast<std::size_t>(ranks.rank())] =
            reduce_as_rank(each, ranks, piece, whole).value();
      });
      for (const auto& error : thrown) ASSERT_EQ(error, nullptr);
      const Numbers expected = added_by_loop(each);
      ASSERT_EQ(whole.bytes, expected.bytes)
          << each.contributions << " ranks, " << name_of(each.precision) << ", " << each.count;
      for (const double norm : norms) ASSERT_EQ(norm, norms.front());
    }
  }
}

/// The squares of `values` by a world of `size` ranks that each have a shard.
double squares_by_world(const Numbers& values, std::uint64_t count, int size) {
  std::vector<double> sums(static_cast<std::size_t>(size));
  const auto thrown = run_ranks({.size = size}, [&](Ranks& ranks) {
    const ElementRange held = ShardMap(count, size).held(ranks.rank());
    const std::uint64_t width = weight_bytes(values.precision);
    OneRank alone;  // the sum is the same on every rank
    std::vector<std::byte> home(held.count() * width);
    optim_cpu::ComputeThreads threads(1);
    const auto own =
        Reduction(alone, std::span(values.bytes).subspan(held.begin * width, home.size()), {})
            .finish({.precision = values.precision, .bytes = home}, threads);
    sums[static_cast<std::size_t>(ranks.rank())] = sum_over(ranks, own).value();
  });
  for (const auto& error : thrown) EXPECT_EQ(error, nullptr);
  for (const double sum : sums) EXPECT_EQ(sum, sums.front());
  return sums.front();
}

TEST(Reduction, TheSumOfSquaresHasTheSameBitsAtEveryWorldSize) {
  std::mt19937_64 random(3);
  std::lognormal_distribution<float> wide(-5, 4);
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    for (const std::uint64_t count : {1u, 65u, 777u, 5'000u, 70'001u}) {
      Numbers values(precision, count);
      for (std::uint64_t i = 0; i < count; ++i) values.set(i, wide(random));
      const double alone = squares_by_world(values, count, 1);
      EXPECT_GT(alone, 0);
      for (const int size : {2, 3, 4, 5, 7}) {
        EXPECT_EQ(squares_by_world(values, count, size), alone) << count << ", " << size;
      }
    }
  }
}

TEST(Reduction, OfOneRankNeedsNoRoomToReceive) {
  OneRank ranks;
  const Case of{Precision::kBf16, true, false, 1, 1000};
  const Numbers gradient = gradient_of(of, 0);
  Numbers home = home_of(of);
  optim_cpu::ComputeThreads threads(1);
  Reduction reduction(ranks, gradient.bytes, {});
  EXPECT_TRUE(reduction.arrived());
  (void)reduction.finish(
      {.precision = of.precision, .fp32 = true, .first = false, .bytes = home.bytes}, threads);
  EXPECT_EQ(home.bytes, added_by_loop(of).bytes);
}

TEST(Reduction, RefusesAHomeOfAnotherSizeAndLeavesItAsItIs) {
  OneRank ranks;
  const Case of{Precision::kBf16, true, false, 1, 64};
  const Numbers gradient = gradient_of(of, 0);
  Numbers home = home_of(of);
  const std::vector<std::byte> before = home.bytes;
  optim_cpu::ComputeThreads threads(1);
  for (const std::size_t bytes : {0u, 128u, 252u}) {
    Reduction reduction(ranks, gradient.bytes, {});
    const GradientHome wrong{.precision = of.precision,
                             .fp32 = true,
                             .first = false,
                             .bytes = std::span(home.bytes).first(bytes)};
    EXPECT_THROW((void)reduction.finish(wrong, threads), UsageError);
  }
  EXPECT_EQ(home.bytes, before);
}

TEST(Reduction, OfARankThatDiesLeavesTheHomesOfTheOthersAsTheyWere) {
  const Case of{Precision::kBf16, true, false, 3, 1000};
  Numbers whole = home_of(of);
  const auto thrown = run_ranks({.size = 3, .death = ThreadRanks::Death{.rank = 1}},
                                [&](Ranks& ranks) { reduce_as_rank(of, ranks, 64, whole); });
  for (const auto& error : thrown) {
    ASSERT_NE(error, nullptr);
    EXPECT_THROW(std::rethrow_exception(error), RankFailure);
  }
  EXPECT_EQ(whole.bytes, home_of(of).bytes);
}

}  // namespace
}  // namespace strata::zero3::reduction_test
