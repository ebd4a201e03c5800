#include "models/cross_entropy.h"

#include <gtest/gtest.h>

#include "strata/base/error.h"

namespace strata::models {
namespace {

/// The obvious way, on an fp32 copy of all logits.
torch::Tensor reference(const torch::Tensor& logits, const torch::Tensor& targets) {
  return torch::nn::functional::cross_entropy(logits.to(torch::kFloat32), targets);
}

struct Case {
  std::int64_t rows, vocab;
  torch::ScalarType format;
};

class CrossEntropy : public ::testing::TestWithParam<Case> {};

TEST_P(CrossEntropy, EqualsThatOfAnFp32CopyInValueAndGradient) {
  const auto [rows, vocab, format] = GetParam();
  torch::manual_seed(1);
  const torch::Tensor logits = (torch::randn({rows, vocab}) * 3).to(format).requires_grad_();
  const torch::Tensor same_logits = logits.detach().clone().requires_grad_();
  const torch::Tensor targets = torch::randint(vocab, {rows}, torch::kInt64);

  const torch::Tensor loss = cross_entropy(logits, targets);
  const torch::Tensor expected = reference(same_logits, targets);
  EXPECT_EQ(loss.scalar_type(), torch::kFloat32);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6 * expected.item<double>());

  const double scale = 1024.0;  // stands for a loss scale
  (loss * scale).backward();
  (expected * scale).backward();
  const double rounding = format == torch::kFloat32   ? 1e-6
                          : format == torch::kFloat16 ? 1e-3
                                                      : 8e-3;
  EXPECT_TRUE(torch::allclose(logits.grad().to(torch::kFloat32),
                              same_logits.grad().to(torch::kFloat32), rounding, 1e-7));
}

// Around the number of rows that are taken at a time (512 Ki elements).
INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropy,
                         ::testing::Values(Case{1, 2, torch::kFloat32}, Case{7, 1, torch::kFloat32},
                                           Case{24, 65, torch::kFloat32},
                                           Case{23, 50304, torch::kFloat32},
                                           Case{11, 50304, torch::kBFloat16},
                                           Case{21, 50304, torch::kFloat16},
                                           Case{3, 600000, torch::kBFloat16}));

TEST(CrossEntropyRows, GiveTheSameBitsHoweverManyAreTakenAtATime) {
  torch::manual_seed(2);
  const std::int64_t vocab = 40000;  // 13 rows at a time
  const torch::Tensor logits = torch::randn({27, vocab}, torch::kBFloat16).requires_grad_();
  const torch::Tensor targets = torch::randint(vocab, {27}, torch::kInt64);
  cross_entropy(logits, targets).backward();
  for (std::int64_t row = 0; row < 27; ++row) {
    const torch::Tensor alone = logits.detach().narrow(0, row, 1).clone().requires_grad_();
    (cross_entropy(alone, targets.narrow(0, row, 1)) / 27).backward();
    EXPECT_TRUE(torch::equal(alone.grad()[0], logits.grad()[row])) << row;
  }
}

TEST(CrossEntropyRows, KeepTheLogitsAsTheyAre) {
  const torch::Tensor logits = torch::randn({5, 9}).requires_grad_();
  const torch::Tensor before = logits.detach().clone();
  const torch::Tensor loss = cross_entropy(logits, torch::zeros({5}, torch::kInt64));
  loss.backward({}, /*retain_graph=*/true);
  const torch::Tensor once = logits.grad().clone();
  loss.backward();
  EXPECT_TRUE(torch::equal(logits.detach(), before));
  EXPECT_TRUE(torch::equal(logits.grad(), 2 * once));
}

TEST(CrossEntropyRows, MustMatchTheTargets) {
  EXPECT_THROW((void)cross_entropy(torch::zeros({4, 3}), torch::zeros({5}, torch::kInt64)),
               UsageError);
  EXPECT_THROW((void)cross_entropy(torch::zeros({0, 3}), torch::zeros({0}, torch::kInt64)),
               UsageError);
}

}  // namespace
}  // namespace strata::models
