#include "models/linear_cross_entropy.h"

#include <c10/core/Allocator.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata::models::linear_cross_entropy_test {
namespace {

using testing::HasSubstr;

/// The tensors that this thread makes while it is alive.
class Allocations {
 public:
  Allocations() : guard_(c10::DebugInfoKind::PROFILER_STATE, seen_) {}

  [[nodiscard]] std::int64_t largest() const { return seen_->largest; }
  [[nodiscard]] std::int64_t live() const { return seen_->live; }
  [[nodiscard]] std::int64_t peak() const { return seen_->peak; }

 private:
  struct Seen : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void* /*memory*/, std::int64_t bytes, std::size_t /*allocated*/,
                           std::size_t /*reserved*/, c10::Device /*device*/) override {
      live += bytes;
      peak = std::max(peak, live);
      largest = std::max(largest, bytes);
    }
    [[nodiscard]] bool memoryProfilingEnabled() const override { return true; }
    std::int64_t live = 0, peak = 0, largest = 0;
  };

  std::shared_ptr<Seen> seen_ = std::make_shared<Seen>();
  c10::DebugInfoGuard guard_;
};

/// Operands, with those that require a gradient.
struct Operands {
  torch::Tensor hidden, weight, targets;

  /// `spread` is the standard deviation of the logits.
  static Operands random(std::int64_t rows, std::int64_t vocab, std::int64_t width,
                         torch::ScalarType format, double spread = 2.0) {
    const double of_weight = spread / std::sqrt(static_cast<double>(width));
    return {torch::randn({rows, width}).to(format).requires_grad_(),
            (torch::randn({vocab, width}) * of_weight).to(format).requires_grad_(),
            torch::randint(vocab, {rows}, torch::kInt64)};
  }
  [[nodiscard]] Operands copy() const {
    const auto of = [](const torch::Tensor& tensor) {
      return tensor.detach().clone().requires_grad_(tensor.requires_grad());
    };
    return {of(hidden), of(weight), targets};
  }
  [[nodiscard]] torch::Tensor loss(std::optional<std::int64_t> chunk_rows = {}) const {
    return linear_cross_entropy(hidden, weight, targets, chunk_rows);
  }
};

// ---- numbers -----------------------------------------------------------------------------------

struct Case {
  std::int64_t rows, vocab, width;
  torch::ScalarType format;
  std::int64_t chunk_rows;
};

class LinearCrossEntropy : public ::testing::TestWithParam<Case> {};

TEST_P(LinearCrossEntropy, IsThatOfTorchInDoublePrecisionUpToItsRoundings) {
  const auto [rows, vocab, width, format, chunk_rows] = GetParam();
  torch::manual_seed(1);
  const double scale = 1024.0;  // stands for a loss scale
  const Operands given = Operands::random(rows, vocab, width, format);
  const torch::Tensor loss = given.loss(chunk_rows);
  (loss * scale).backward();

  const torch::Tensor x = given.hidden.detach().to(torch::kFloat64).requires_grad_();
  const torch::Tensor w = given.weight.detach().to(torch::kFloat64).requires_grad_();
  const torch::Tensor logits = torch::linear(x, w);
  const torch::Tensor expected = torch::nn::functional::cross_entropy(logits, given.targets);
  (expected * scale).backward();

  // Roundings of products and of g to their format, and of the result to the operands'.
  const double product = format == torch::kBFloat16 ? 0x1p-8 : 1e-6;
  const double result = format == torch::kBFloat16  ? 0x1p-8
                        : format == torch::kFloat16 ? 0x1p-11
                                                    : 0x1p-24;
  const double largest_logit = logits.abs().max().item<double>();
  const double of_logits = product * largest_logit;
  EXPECT_EQ(loss.scalar_type(), torch::kFloat32);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 2 * of_logits + 1e-6);

  // A rounding of the logits moves g by at most twice its own size times p.
  const torch::Tensor p = torch::softmax(logits.detach(), 1);
  const torch::Tensor g = (p - torch::one_hot(given.targets, vocab).to(torch::kFloat64)).abs();
  const torch::Tensor error = product * g + 2.1 * of_logits * p;
  const double factor = scale / static_cast<double>(rows);
  const auto expect_within = [&](const torch::Tensor& actual, const torch::Tensor& exact,
                                 const torch::Tensor& bound) {
    EXPECT_EQ(actual.scalar_type(), format);
    const torch::Tensor allowed = factor * bound + 1.01 * result * exact.abs() + 1e-7;
    const torch::Tensor excess = (actual.to(torch::kFloat64) - exact).abs() / allowed;
    EXPECT_LE(excess.max().item<double>(), 1.0);
  };
  const torch::Tensor of_product_x = torch::mm(product * g, w.detach().abs());
  const torch::Tensor of_product_w = torch::mm(product * g.t(), x.detach().abs());
  expect_within(given.hidden.grad(), x.grad(), torch::mm(error, w.detach().abs()) + of_product_x);
  expect_within(given.weight.grad(), w.grad(),
                torch::mm(error.t(), x.detach().abs()) + of_product_w);
}

// Around the elements that are converted at a time (512 Ki), and with chunks that do not divide.
INSTANTIATE_TEST_SUITE_P(
    Shapes, LinearCrossEntropy,
    ::testing::Values(
        Case{1, 2, 3, torch::kFloat32, 1}, Case{7, 1, 4, torch::kFloat32, 2},
        Case{24, 65, 16, torch::kFloat32, 100}, Case{24, 65, 16, torch::kFloat32, 5},
        Case{23, 50304, 24, torch::kFloat32, 9}, Case{40, 300, 32, torch::kBFloat16, 40},
        Case{40, 300, 32, torch::kBFloat16, 7}, Case{40, 300, 32, torch::kBFloat16, 1},
        Case{11, 50304, 24, torch::kBFloat16, 4}, Case{40, 300, 32, torch::kFloat16, 40},
        Case{40, 300, 32, torch::kFloat16, 7}, Case{21, 50304, 24, torch::kFloat16, 6},
        Case{3, 600000, 2, torch::kBFloat16, 2}));

TEST(LinearCrossEntropyOfCappedLogits, IsThatOfTorchWithItsGradients) {
  torch::manual_seed(3);
  const double cap = 1.3;  // below many logits
  const Operands given = Operands::random(23, 65, 16, torch::kFloat32, /*spread=*/3.0);
  const torch::Tensor x = given.hidden.detach().to(torch::kFloat64).requires_grad_();
  const torch::Tensor w = given.weight.detach().to(torch::kFloat64).requires_grad_();
  const torch::Tensor expected = torch::nn::functional::cross_entropy(
      torch::tanh(torch::linear(x, w) / cap) * cap, given.targets);
  expected.backward();
  for (const std::int64_t chunk_rows : {100, 7}) {
    const Operands own = given.copy();
    const torch::Tensor loss =
        linear_cross_entropy(own.hidden, own.weight, own.targets, chunk_rows, cap);
    loss.backward();
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6);
    EXPECT_TRUE(torch::allclose(own.hidden.grad().to(torch::kFloat64), x.grad(), 1e-5, 1e-7));
    EXPECT_TRUE(torch::allclose(own.weight.grad().to(torch::kFloat64), w.grad(), 1e-5, 1e-7));
  }
}

TEST(LinearCrossEntropyWithABias, IsThatOfTorchWithItsGradients) {
  torch::manual_seed(4);
  const Operands given = Operands::random(23, 65, 16, torch::kFloat32);
  const torch::Tensor bias = torch::randn({65});
  const torch::Tensor x = given.hidden.detach().to(torch::kFloat64).requires_grad_();
  const torch::Tensor w = given.weight.detach().to(torch::kFloat64).requires_grad_();
  const torch::Tensor b = bias.to(torch::kFloat64).requires_grad_();
  const torch::Tensor expected =
      torch::nn::functional::cross_entropy(torch::linear(x, w, b), given.targets);
  (expected * 3).backward();
  for (const std::int64_t chunk_rows : {100, 7}) {
    const Operands own = given.copy();
    const torch::Tensor own_bias = bias.clone().requires_grad_();
    const torch::Tensor loss = linear_cross_entropy(own.hidden, own.weight, own.targets, chunk_rows,
                                                    std::nullopt, own_bias);
    (loss * 3).backward();
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6);
    EXPECT_TRUE(torch::allclose(own.hidden.grad().to(torch::kFloat64), x.grad(), 1e-5, 1e-7));
    EXPECT_TRUE(torch::allclose(own.weight.grad().to(torch::kFloat64), w.grad(), 1e-5, 1e-7));
    EXPECT_TRUE(torch::allclose(own_bias.grad().to(torch::kFloat64), b.grad(), 1e-5, 1e-7));
  }
  const Operands narrow = Operands::random(5, 7, 4, torch::kBFloat16);
  const torch::Tensor of_narrow = torch::zeros({7}, torch::kBFloat16).requires_grad_();
  linear_cross_entropy(narrow.hidden, narrow.weight, narrow.targets, 2, std::nullopt, of_narrow)
      .backward();
  EXPECT_EQ(of_narrow.grad().scalar_type(), torch::kBFloat16);
  EXPECT_THROW((void)linear_cross_entropy(narrow.hidden, narrow.weight, narrow.targets, 2,
                                          std::nullopt, torch::zeros({6}, torch::kBFloat16)),
               UsageError);
}

class LinearCrossEntropyIn : public ::testing::TestWithParam<torch::ScalarType> {};

/// With the unit matrix as the head, logits are hidden and its gradient is that of the logits, all
/// without a rounding by a product.
TEST_P(LinearCrossEntropyIn, HasLossesAndGradientsOfLogitsOfTheSameBitsForEveryChunk) {
  const std::int64_t rows = 27, vocab = 300;
  torch::manual_seed(2);
  Operands given = Operands::random(rows, vocab, vocab, GetParam());
  given.hidden = (torch::randn({rows, vocab}) * 3).to(GetParam()).requires_grad_();
  given.weight = torch::eye(vocab).to(GetParam());
  const torch::Tensor values = given.hidden.detach().to(torch::kFloat32);
  const torch::Tensor columns = given.targets.unsqueeze(1);
  torch::Tensor gradient = torch::softmax(values, 1);
  gradient.scatter_add_(1, columns, torch::full({rows, 1}, -1.0));
  gradient *= 1.0 / 27.0;
  if (GetParam() == torch::kBFloat16) gradient = gradient.to(torch::kBFloat16);
  const torch::Tensor expected = (gradient.to(torch::kFloat32) * 1000.0).to(GetParam());
  double sum = 0.0;
  for (std::int64_t row = 0; row < rows; ++row) {
    sum -= torch::log_softmax(values, 1).gather(1, columns)[row].item<float>();
  }
  for (std::int64_t chunk_rows = 1; chunk_rows <= rows + 1; ++chunk_rows) {
    const Operands same = given.copy();
    const torch::Tensor loss = same.loss(chunk_rows);
    (loss * 1000.0).backward();
    EXPECT_EQ(loss.item<float>(), static_cast<float>(sum / 27.0)) << chunk_rows;
    EXPECT_TRUE(torch::equal(same.hidden.grad(), expected)) << chunk_rows;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, LinearCrossEntropyIn,
                         ::testing::Values(torch::kFloat32, torch::kBFloat16, torch::kFloat16));

TEST(LinearCrossEntropyInFp16, KeepsGradientsThatOnlyALossScaleLiftsIntoItsRange) {
  // Rows that are all but certain: gradients of at most 1e-8, and fp16 ends at 6e-8.
  const std::int64_t rows = 64, vocab = 50, width = 50;
  torch::manual_seed(3);
  const Operands given{(torch::eye(width) * 320)
                           .repeat({2, 1})
                           .slice(0, 0, rows)
                           .to(torch::kFloat16)
                           .requires_grad_(),
                       (torch::eye(vocab) * 0.05 + torch::randn({vocab, width}) * 1e-3)
                           .to(torch::kFloat16)
                           .requires_grad_(),
                       torch::arange(vocab).repeat({2}).slice(0, 0, rows).clone()};
  const torch::Tensor x = given.hidden.detach().to(torch::kFloat64).requires_grad_();
  const torch::Tensor w = given.weight.detach().to(torch::kFloat64).requires_grad_();
  torch::nn::functional::cross_entropy(torch::linear(x, w), given.targets).backward();
  const torch::Tensor unscaled = x.grad();
  ASSERT_EQ(unscaled.to(torch::kFloat16).count_nonzero().item<std::int64_t>(), 0);
  const double scale = 0x1p24;
  // The fp32 softmax - 1 is as exact as fp32 is near 1, up to some units in its last place.
  const double of_g = 0x1p-21 / static_cast<double>(rows);
  const double of_hidden = of_g * w.abs().max().item<double>(), of_head = of_g * 2 * 320;
  ASSERT_LT(20 * of_hidden, unscaled.abs().max().item<double>());
  for (const std::int64_t chunk_rows : {64, 10}) {
    const Operands same = given.copy();
    (same.loss(chunk_rows) * scale).backward();
    const torch::Tensor kept = same.hidden.grad().to(torch::kFloat64) / scale;
    EXPECT_TRUE(torch::allclose(kept, unscaled, 2e-3, of_hidden)) << chunk_rows;
    const torch::Tensor kept_of_head = same.weight.grad().to(torch::kFloat64) / scale;
    EXPECT_TRUE(torch::allclose(kept_of_head, w.grad(), 2e-3, of_head)) << chunk_rows;
  }
}

// ---- memory ------------------------------------------------------------------------------------

TEST(LinearCrossEntropyMemory, NeverHoldsAllLogits) {
  torch::manual_seed(4);
  const std::int64_t rows = 1024, vocab = 20000, width = 8, chunk = 32;
  const Operands given = Operands::random(rows, vocab, width, torch::kBFloat16);
  const std::int64_t of_chunk = chunk * vocab * 2, of_head = vocab * width * 4;
  const std::int64_t of_blocks = 5 * (std::int64_t{1} << 19) * 4;  // between two formats
  for (const bool with_gradients : {false, true}) {
    const Allocations seen;
    const torch::AutoGradMode mode(with_gradients);
    const torch::Tensor loss = given.loss(chunk);
    if (with_gradients) loss.backward();
    EXPECT_LT(seen.largest(), rows * vocab * 2 / 4);
    EXPECT_LT(seen.peak(), of_chunk + 2 * of_head + of_blocks);
    EXPECT_GE(seen.largest(), of_chunk);
  }
}

TEST(LinearCrossEntropyMemory, TakesChunksOnItsOwn) {
  const Operands given = Operands::random(2048, 5000, 4, torch::kFloat32);
  const Allocations seen;
  given.loss().backward();
  EXPECT_LE(seen.largest(), std::int64_t{16} << 20);
}

TEST(LinearCrossEntropyMemory, IsNotTakenForGradientsThatNobodyWants) {
  const std::int64_t of_head = 3000 * 300 * 4, of_hidden = 4096 * 64 * 4;
  const auto largest = [](const Operands& given, std::int64_t chunk_rows, bool hidden,
                          bool weight) {
    given.hidden.requires_grad_(hidden);
    given.weight.requires_grad_(weight);
    const Allocations seen;
    const torch::Tensor loss = given.loss(chunk_rows);
    EXPECT_EQ(loss.requires_grad(), hidden || weight);
    if (loss.requires_grad()) loss.backward();
    EXPECT_EQ(given.hidden.grad().defined(), hidden);
    EXPECT_EQ(given.weight.grad().defined(), weight);
    return seen.largest();
  };
  const Operands wide_head = Operands::random(2, 3000, 300, torch::kFloat32);
  EXPECT_LT(largest(wide_head, 1, true, false), of_head);
  EXPECT_LT(largest(Operands::random(2, 3000, 300, torch::kFloat32), 1, false, false), of_head);
  EXPECT_GE(largest(Operands::random(2, 3000, 300, torch::kFloat32), 1, true, true), of_head);
  EXPECT_LT(largest(Operands::random(4096, 8, 64, torch::kFloat32), 16, false, true), of_hidden);
  EXPECT_GE(largest(Operands::random(4096, 8, 64, torch::kFloat32), 16, true, true), of_hidden);

  const Operands both = Operands::random(2, 3000, 300, torch::kFloat32);
  const torch::Tensor loss = both.loss(1);
  {
    const Allocations seen;
    (void)torch::autograd::grad({loss}, {both.hidden}, {}, /*retain_graph=*/true);
    EXPECT_LT(seen.largest(), of_head);
  }

  const torch::NoGradGuard no_grad;
  const Allocations seen;
  EXPECT_FALSE(wide_head.loss(1).requires_grad());
  EXPECT_LT(seen.largest(), of_head);
}

TEST(LinearCrossEntropyMemory, IsGivenBackByBackwardThoughTheLossLivesOn) {
  for (const torch::ScalarType format : {torch::kFloat32, torch::kBFloat16}) {
    const Operands given = Operands::random(64, 500, 40, format);
    const Allocations seen;
    const torch::Tensor loss = given.loss(16);
    loss.backward();
    given.hidden.mutable_grad().reset();
    given.weight.mutable_grad().reset();
    EXPECT_LT(seen.live(), 64 * 40 * 2);
  }
}

// ---- autograd ----------------------------------------------------------------------------------

TEST(LinearCrossEntropyGraph, GivesTheSameAgainWhenItIsRetained) {
  torch::manual_seed(5);
  for (const torch::ScalarType format : {torch::kFloat32, torch::kBFloat16, torch::kFloat16}) {
    const Operands given = Operands::random(12, 9, 5, format);
    const Operands before = given.copy();
    const torch::Tensor loss = given.loss(5);
    const auto gradients = [&](bool retain) {
      return torch::autograd::grad({loss}, {given.hidden, given.weight}, {}, retain);
    };
    const auto first = gradients(true), second = gradients(false);
    EXPECT_TRUE(torch::equal(first[0], second[0]));
    EXPECT_TRUE(torch::equal(first[1], second[1]));
    EXPECT_TRUE(torch::equal(given.hidden, before.hidden));
    EXPECT_TRUE(torch::equal(given.weight, before.weight));
    EXPECT_THAT(support::message_of<UsageError>([&] { (void)gradients(false); }),
                HasSubstr("retain_graph"));
  }
}

TEST(LinearCrossEntropyGraph, HasNoGradientOfAGradient) {
  const Operands given = Operands::random(4, 9, 5, torch::kFloat32);
  const torch::Tensor loss = given.loss();
  EXPECT_THAT(support::message_of<UsageError>([&] {
                (void)torch::autograd::grad({loss}, {given.hidden}, {}, /*retain_graph=*/true,
                                            /*create_graph=*/true);
              }),
              HasSubstr("gradient of a gradient"));
}

TEST(LinearCrossEntropyOperands, OfOtherShapesAndFormatsAreRefused) {
  const torch::Tensor hidden = torch::zeros({4, 3}), weight = torch::zeros({7, 3}),
                      targets = torch::zeros({4}, torch::kInt64);
  EXPECT_NO_THROW((void)linear_cross_entropy(hidden, weight, targets));
  const std::vector<Operands> refused = {
      {torch::zeros({3}), weight, targets},
      {hidden, torch::zeros({7, 2}), targets},
      {hidden, torch::zeros({3}), targets},
      {hidden, weight, torch::zeros({5}, torch::kInt64)},
      {hidden, weight, torch::zeros({4, 1}, torch::kInt64)},
      {hidden, weight, torch::zeros({4}, torch::kInt32)},
      {hidden, weight.to(torch::kBFloat16), targets},
      {hidden.to(torch::kInt64), weight.to(torch::kInt64), targets},
      {torch::zeros({0, 3}), weight, torch::zeros({0}, torch::kInt64)},
      {hidden, torch::zeros({0, 3}), targets},
      {torch::zeros({4, 0}), torch::zeros({7, 0}), targets}};
  for (const Operands& operands : refused) {
    EXPECT_THAT(support::message_of<UsageError>([&] { (void)operands.loss(); }),
                HasSubstr("hidden [N, d]"));
  }
  EXPECT_THROW((void)linear_cross_entropy(hidden, weight, targets, 0), UsageError);
}

}  // namespace
}  // namespace strata::models::linear_cross_entropy_test
