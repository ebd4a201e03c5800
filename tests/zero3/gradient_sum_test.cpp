#include "zero3/gradient_sum.h"

#include <gtest/gtest.h>

#include <vector>

namespace strata::zero3::gradient_sum_test {
namespace {

using torch::Tensor;
using torch::autograd::variable_list;

/// Gradients of micro-batches for a matrix, which threads share, a vector in fp32, and a parameter
/// that has none in the first micro-batch.
std::vector<variable_list> gradients_of_micro_batches(torch::ScalarType format) {
  torch::manual_seed(1);
  std::vector<variable_list> all;
  for (int micro_batch = 0; micro_batch < 7; ++micro_batch) {
    all.push_back({torch::randn({300, 501}).to(format), torch::randn({77}),
                   micro_batch == 0 ? Tensor() : torch::randn({5, 5}).to(format), Tensor()});
  }
  return all;
}

/// One addition after the other, by LibTorch.
variable_list added_by_torch(const std::vector<variable_list>& micro_batches) {
  variable_list sums(micro_batches.front().size());
  for (const variable_list& gradients : micro_batches) {
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined()) continue;
      const Tensor wide = gradients[i].to(torch::kFloat32);
      sums[i] = sums[i].defined() ? sums[i] + wide : wide.clone();
    }
  }
  return sums;
}

void expect_equal(const variable_list& actual, const variable_list& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(actual[i].defined(), expected[i].defined()) << i;
    if (!actual[i].defined()) continue;
    EXPECT_EQ(actual[i].scalar_type(), torch::kFloat32);
    EXPECT_TRUE(torch::equal(actual[i], expected[i])) << i;
  }
}

TEST(GradientSum, HasTheBitsOfOneAdditionAfterTheOtherHoweverManyWait) {
  optim_cpu::ComputeThreads threads;
  for (const auto format : {torch::kBFloat16, torch::kFloat16, torch::kFloat32}) {
    const std::vector<variable_list> micro_batches = gradients_of_micro_batches(format);
    const variable_list expected = added_by_torch(micro_batches);
    const std::uint64_t bytes = 301 * 501 * torch::elementSize(format);
    for (const std::uint64_t waiting : {std::uint64_t{0}, 2 * bytes, 3 * bytes, 100 * bytes}) {
      GradientSum sum(threads, waiting);
      for (const variable_list& gradients : micro_batches) sum.add(gradients);
      expect_equal(sum.take(), expected);
    }
  }
}

TEST(GradientSum, IsEmptyWhenItWasTakenOrDropped) {
  optim_cpu::ComputeThreads threads;
  const std::vector<variable_list> micro_batches = gradients_of_micro_batches(torch::kBFloat16);
  GradientSum sum(threads);
  EXPECT_TRUE(sum.take().empty());
  sum.add(micro_batches[1]);
  sum.drop();
  EXPECT_TRUE(sum.take().empty());
  sum.add(micro_batches[1]);
  sum.add(micro_batches[2]);
  expect_equal(sum.take(), added_by_torch({micro_batches[1], micro_batches[2]}));
  EXPECT_TRUE(sum.take().empty());
}

TEST(GradientSum, LetsFewBytesWait) {
  optim_cpu::ComputeThreads threads;
  const std::vector<variable_list> micro_batches = gradients_of_micro_batches(torch::kBFloat16);
  const std::uint64_t bytes = 301 * 501 * 2;
  GradientSum sum(threads, 3 * bytes);
  std::vector<std::size_t> waiting;
  for (const variable_list& gradients : micro_batches) {
    sum.add(gradients);
    waiting.push_back(gradients[0].use_count() - 1);
  }
  EXPECT_EQ(waiting, (std::vector<std::size_t>{1, 1, 0, 1, 1, 0, 1}));
}

TEST(GradientSum, LeavesWhatItWasGivenAsItWas) {
  optim_cpu::ComputeThreads threads;
  const Tensor shared = torch::ones({200, 200}, torch::kFloat32);
  GradientSum sum(threads);
  for (int i = 0; i < 3; ++i) sum.add({shared, shared});
  const variable_list sums = sum.take();
  EXPECT_TRUE(torch::equal(shared, torch::ones({200, 200})));
  EXPECT_TRUE(torch::equal(sums[0], 3 * shared));
  EXPECT_FALSE(sums[0].is_alias_of(sums[1]));
}

}  // namespace
}  // namespace strata::zero3::gradient_sum_test
