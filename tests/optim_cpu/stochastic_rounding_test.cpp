#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "optim_cpu/dither.h"
#include "optim_cpu/moment_reference.h"
#include "optim_cpu/number_conversions.h"
#include "optim_cpu/state_arrays.h"

/// \file
/// What does not fit is kept on average, and what fits stays as it is.

namespace strata::optim_cpu::stochastic_rounding_test {
namespace {

// ---- the random numbers ------------------------------------------------------------------------

TEST(DitherBits, DependOnSequenceStepAndElement) {
  std::set<std::uint32_t> keys;
  for (std::uint64_t sequence = 0; sequence < 100; ++sequence)
    for (std::uint64_t step = 0; step < 100; ++step) keys.insert(make_dither_key(sequence, step));
  EXPECT_GE(keys.size(), 9'995u);  // of 10'000; chance lets one pair in a hundred runs coincide
  std::set<std::uint32_t> bits;
  for (std::uint64_t element = 0; element < 10'000; ++element) bits.insert(dither_bits(7, element));
  EXPECT_GE(bits.size(), 9'995u);
}

TEST(DitherBits, HaveTheMeanOfUniformNumbersInEveryHalfAndInEveryRow) {
  constexpr std::size_t kCount = 1 << 16;
  for (std::uint64_t row = 0; row < kDitherRows; ++row) {
    double low = 0;
    double high = 0;
    for (std::uint64_t i = 0; i < kCount; ++i) {
      const std::uint64_t element =
          i / kDitherColumns * kDitherBlock + row * kDitherColumns + i % kDitherColumns;
      const std::uint32_t bits = dither_bits(12345, element);
      low += (bits & kLowerHalf) / 65536.0;
      high += (bits >> kHalf) / 65536.0;
    }
    const double tolerance = 5 * std::sqrt(1.0 / 12 / kCount);
    EXPECT_NEAR(low / kCount, 0.5, tolerance) << "row " << row;
    EXPECT_NEAR(high / kCount, 0.5, tolerance) << "row " << row;
  }
}

double centred(std::uint32_t bits) { return bits / 4294967296.0 - 0.5; }

TEST(DitherBits, OfNoTwoElementsOfABlockAreCorrelated) {
  constexpr std::size_t kBlocks = 1 << 14;
  // Two rows that lie next to each other are turned by a byte: by 1/256.
  const double tolerance = (1.0 / 256 + 5 / std::sqrt(kBlocks)) / 12;
  std::vector<std::vector<double>> numbers(kDitherBlock, std::vector<double>(kBlocks));
  for (std::size_t element = 0; element < kDitherBlock; ++element) {
    for (std::size_t block = 0; block < kBlocks; ++block)
      numbers[element][block] = centred(dither_bits(99, block * kDitherBlock + element));
  }
  for (std::size_t i = 0; i < kDitherBlock; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const double product =
          std::inner_product(numbers[i].begin(), numbers[i].end(), numbers[j].begin(), 0.0);
      EXPECT_NEAR(product / kBlocks, 0, tolerance) << "elements " << j << " and " << i;
    }
  }
}

TEST(DitherBits, OfMAndOfVAreNotCorrelated) {
  constexpr std::uint64_t kCount = 1 << 16;
  double product = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const std::uint32_t bits = dither_bits(99, i);
    product += centred(bits) * centred(std::rotl(bits, static_cast<int>(kHalf)));
  }
  EXPECT_NEAR(product / kCount, 0, 5.0 / 12 / std::sqrt(kCount));
}

// ---- bf16 and 24 bits --------------------------------------------------------------------------

TEST(StochasticRounding, ToBf16KeepsTheMeanAndWhatFits) {
  for (const float value : {1.001f, -0.3337f, 1e-30f, 123456.7f}) {
    double sum = 0;
    for (std::uint32_t dither = 0; dither < 65536; ++dither)
      sum += from_bf16(to_bf16_stochastically(value, dither));
    EXPECT_DOUBLE_EQ(sum / 65536, value);
  }
  for (std::uint32_t bits = 0; bits < 0x7F80; ++bits) {  // every finite one that is not negative
    const float value = from_bf16(static_cast<std::uint16_t>(bits));
    ASSERT_EQ(to_bf16_stochastically(value, 0), bits);
    ASSERT_EQ(to_bf16_stochastically(value, 65535), bits);
  }
  EXPECT_EQ(to_bf16_stochastically(std::numeric_limits<float>::infinity(), 65535), 0x7F80);
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16_stochastically(std::nanf(""), 65535))));
}

TEST(StochasticRounding, To24BitsKeepsTheMeanAndWhatFits) {
  for (const float value : {1.0000101f, -0.33371234f, 3.1e-20f}) {
    double sum = 0;
    for (std::uint32_t dither = 0; dither < 256; ++dither)
      sum += join_hi_lo_24(split_hi_lo_24(value, dither));
    EXPECT_DOUBLE_EQ(sum / 256, value);
  }
  std::mt19937 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(random()) & 0xFFFFFF00;
    if (is_nan_bits(bits)) continue;
    const float value = std::bit_cast<float>(bits);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(join_hi_lo_24(split_hi_lo_24(value, 0))), bits);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(join_hi_lo_24(split_hi_lo_24(value, 255))), bits);
  }
}

// ---- int8 blocks -------------------------------------------------------------------------------

/// A block of m and one of v, and what they rest in.
class MomentBlock : public ::testing::Test {
 protected:
  MomentBlock() {
    format_.moments = MomentFormat::kInt8;
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (float& value : m_) value = normal(random);
    for (float& value : v_) value = std::pow(normal(random), 2.0f);
  }

  void write(std::uint32_t key) { write_moments(span(), 0, kBlock, m_, v_, key); }
  void read() { read_moments(span(), 0, kBlock, read_m_, read_v_); }

  UpdateSpan span() {
    return {.format = format_,
            .gradient_format = Precision::kFp32,
            .count = kBlock,
            .weight = nullptr,
            .master = nullptr,
            .m = m_codes_.data(),
            .v = v_codes_.data(),
            .gradient = nullptr};
  }
  static float largest(const MomentValues& values) {
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    return largest;
  }

  StateFormat format_ = Precision::kFp32;
  MomentValues m_{}, v_{}, read_m_{}, read_v_{};
  std::array<std::uint8_t, kBlock> m_codes_{}, v_codes_{};
};

TEST_F(MomentBlock, OfZeroBytesIsZero) {
  read();
  EXPECT_EQ(read_m_, MomentValues{});
  EXPECT_EQ(read_v_, MomentValues{});
  m_ = v_ = {};
  write(1);
  EXPECT_EQ(m_codes_, (std::array<std::uint8_t, kBlock>{}));
  read();
  EXPECT_EQ(read_v_, MomentValues{});
}

TEST_F(MomentBlock, IsNeverMoreThanAStepOff) {
  for (std::uint32_t key = 0; key < 100; ++key) {
    write(key);
    read();
    const float step_of_m = largest(m_) * 1.01f / kCodesOfM;
    const float step_of_root = std::sqrt(largest(v_)) * 1.01f / kCodesOfV;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const float steps = i < kCoarseCodes ? 2 : 1;
      ASSERT_LE(std::abs(read_m_[i] - m_[i]), steps * step_of_m) << i;
      ASSERT_LE(std::abs(std::sqrt(read_v_[i]) - std::sqrt(v_[i])), steps * step_of_root) << i;
    }
  }
}

TEST_F(MomentBlock, KeepsItsValuesOnAverage) {
  constexpr int kKeys = 20'000;
  std::array<double, kBlock> m{};
  std::array<double, kBlock> root{};
  for (std::uint32_t key = 0; key < kKeys; ++key) {
    write(key * 2654435761u);
    read();
    for (std::size_t i = 0; i < kBlock; ++i) {
      m[i] += read_m_[i] / kKeys;
      root[i] += std::sqrt(static_cast<double>(read_v_[i])) / kKeys;
    }
  }
  for (std::size_t i = 0; i < kBlock; ++i) {
    const double steps = i < kCoarseCodes ? 2 : 1;
    const double tolerance_of_m = 4 * steps * largest(m_) / kCodesOfM / 2 / std::sqrt(kKeys);
    EXPECT_NEAR(m[i], m_[i], tolerance_of_m) << i;
    const double step_of_root = steps * std::sqrt(largest(v_)) / kCodesOfV;
    if (std::sqrt(v_[i]) < step_of_root) continue;  // taken for more than it is, see below
    EXPECT_NEAR(root[i], std::sqrt(v_[i]), 4 * step_of_root / 2 / std::sqrt(kKeys)) << i;
  }
}

TEST_F(MomentBlock, KeepsItsLargestValueUnderTheLargestRandomNumbers) {
  constexpr std::uint32_t kKeyOfM = 0x7B05D66D;
  constexpr std::uint32_t kKeyOfV = 0x94905F72;
  ASSERT_GE(std::rotl(dither_bits(kKeyOfM, 0), static_cast<int>(kHalf)), 0x7FFFFF80u);
  ASSERT_GE(dither_bits(kKeyOfV, 0), 0x7FFFFF80u);
  m_ = v_ = {};
  m_[0] = v_[0] = 1.0f;
  for (const std::uint32_t key : {kKeyOfM, kKeyOfV}) {
    write(key);
    read();
    EXPECT_NEAR(read_m_[0], 1.0f, 2 / kCodesOfM);
    EXPECT_NEAR(std::sqrt(read_v_[0]), 1.0f, 2 / kCodesOfV);
  }
}

TEST_F(MomentBlock, NeverTakesASecondMomentForZero) {
  v_.fill(1e-30f);
  v_[20] = 1.0f;
  for (std::uint32_t key = 0; key < 1000; ++key) {
    write(key);
    read();
    for (const float value : read_v_) ASSERT_GT(value, 0.0f);
  }
}

TEST_F(MomentBlock, WithAValueThatIsNotFiniteIsNanAsAWhole) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::nanf(""), std::numeric_limits<float>::max()}) {
    m_[63] = bad;
    v_[0] = bad == std::numeric_limits<float>::max() ? std::numeric_limits<float>::infinity() : bad;
    write(3);
    read();
    for (const float value : read_m_) EXPECT_TRUE(std::isnan(value));
    for (const float value : read_v_) EXPECT_TRUE(std::isnan(value));
  }
}

TEST(ScaleOfBlock, TakesTheLowestBitsOfSixteenCodes) {
  for (std::uint32_t scale = 0; scale < 65536; ++scale) {
    std::array<std::uint8_t, kBlock> codes;
    codes.fill(0xFE);
    set_scale_of_block(codes.data(), static_cast<std::uint16_t>(scale));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(scale_of_block(codes.data())), scale << 16);
    for (std::size_t i = 0; i < kBlock; ++i) {
      const std::uint32_t bit = i < kCoarseCodes ? scale >> i & 1 : 0;
      ASSERT_EQ(codes[i], 0xFE | bit);
    }
  }
}

// ---- why: an average that does not stop --------------------------------------------------------

TEST(StochasticRounding, LetsASecondMomentDecayThatRoundingToNearestWouldHold) {
  const AdamOptions options{.lr = 0, .beta2 = 0.999};
  for (const MomentFormat moments : {MomentFormat::kBf16, MomentFormat::kInt8}) {
    StateFormat format = Precision::kFp32;
    format.moments = moments;
    StateArrays states(format, Precision::kFp32, 64 * kBlock);
    states.fill([] { return 1.0f; }, [] { return 0.0f; }, [] { return 1.0f; }, [] { return 0.0f; });
    constexpr int kSteps = 1000;
    for (std::int64_t step = 1; step <= kSteps; ++step) update(options, {step}, states.span());
    const std::vector<float> v = states.moments().v;
    const double mean = std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
    EXPECT_NEAR(mean, std::pow(0.999, kSteps), 0.02) << name_of(moments);
  }
}

}  // namespace
}  // namespace strata::optim_cpu::stochastic_rounding_test
