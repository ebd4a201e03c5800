#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "optim_cpu/kernel_table.h"
#include "optim_cpu/number_values.h"
#include "strata/optim_cpu/add_in_order.h"

namespace strata::optim_cpu::add_in_order_test {
namespace {

constexpr std::size_t kCount = 1003;
constexpr std::size_t kOffset = 3;  // numbers that lie before an unaligned gradient

/// Gradients of some micro-batches, and the sum that they join.
struct Gradients {
  Gradients(Precision of, std::size_t micro_batches) : precision(of), sum(kCount) {
    std::mt19937 random(micro_batches);
    std::normal_distribution<float> normal;
    for (float& value : sum) value = 3 * normal(random);
    for (std::size_t g = 0; g < micro_batches; ++g) {
      memory.emplace_back((kCount + kOffset) * weight_bytes(of));
      at.push_back(memory.back().data() + (g % 2) * kOffset * weight_bytes(of));
      auto* const values = memory.back().data() + (g % 2) * kOffset * weight_bytes(of);
      for (std::size_t i = 0; i < kCount; ++i) write_value(of, values, i, normal(random));
      write_value(of, values, 7, -0.0F);
    }
    sum[7] = -0.0F;
  }

  /// One pass for each gradient: what a single one has to equal.
  [[nodiscard]] std::vector<float> added_one_by_one(bool is_first) const {
    std::vector<float> result = sum;
    for (std::size_t g = 0; g < at.size(); ++g)
      for (std::size_t i = 0; i < kCount; ++i) {
        const float value = read_value(precision, at[g], i);
        result[i] = is_first && g == 0 ? value : result[i] + value;
      }
    return result;
  }

  Precision precision;
  std::vector<std::vector<std::byte>> memory;
  std::vector<const void*> at;
  std::vector<float> sum;
};

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

template <class Visit>
void for_each_case(const Visit& visit) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16})
    for (const std::size_t micro_batches : {1u, 2u, 3u, 8u})
      for (const bool is_first : {true, false})
        visit(Gradients(precision, micro_batches), is_first);
}

TEST(AddInOrder, HasTheBitsOfOnePassForEachGradientOnEveryInstructionSet) {
  for_each_case([](const Gradients& gradients, bool is_first) {
    const std::vector<float> expected = gradients.added_one_by_one(is_first);
    for (const std::string_view name : InstructionSet::names()) {
      std::vector<float> sum = gradients.sum;
      add_in_order(InstructionSet(name), gradients.precision, gradients.at, is_first, {0, kCount},
                   sum.data());
      EXPECT_EQ(bits_of(sum), bits_of(expected)) << name << ", " << gradients.at.size();
    }
  });
}

TEST(AddInOrder, TouchesItsBlockAlone) {
  for_each_case([](const Gradients& gradients, bool is_first) {
    const std::vector<float> added = gradients.added_one_by_one(is_first);
    std::vector<float> expected = gradients.sum;
    std::copy(added.begin() + 101, added.begin() + 900, expected.begin() + 101);
    std::vector<float> sum = gradients.sum;
    add_in_order({}, gradients.precision, gradients.at, is_first, {101, 900}, sum.data());
    EXPECT_EQ(bits_of(sum), bits_of(expected));
  });
}

TEST(AddInOrder, KeepsWhatIsNotFinite) {
  using Limits = std::numeric_limits<float>;
  for (const float bad : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()})
    for (const std::size_t at : {5u, 1001u}) {
      Gradients gradients(Precision::kBf16, 3);
      write_value(Precision::kBf16, gradients.memory[2].data(), at, bad);
      add_in_order({}, Precision::kBf16, gradients.at, true, {0, kCount}, gradients.sum.data());
      EXPECT_FALSE(std::isfinite(gradients.sum[at]));
      EXPECT_TRUE(std::isfinite(gradients.sum[at - 1]));
    }
}

}  // namespace
}  // namespace strata::optim_cpu::add_in_order_test
