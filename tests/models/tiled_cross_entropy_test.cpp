#include "models/tiled_cross_entropy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "models/linear_cross_entropy.h"
#include "strata/base/error.h"
#include "strata/zero3/shared_input.h"
#include "support/message_of.h"

namespace strata::models::tiled_cross_entropy_test {
namespace {

using torch::Tensor;

struct Case {
  torch::ScalarType format;
  std::int64_t tile_rows, chunk_rows;
};

class TiledCrossEntropy : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr std::int64_t kRows = 37, kVocab = 101, kWidth = 24;

  TiledCrossEntropy() {
    torch::manual_seed(1);
    hidden_ = torch::randn({kRows, kWidth}).to(GetParam().format).requires_grad_();
    const double spread = 2.0 / std::sqrt(static_cast<double>(kWidth));
    weight_ = (torch::randn({kVocab, kWidth}) * spread).to(GetParam().format).requires_grad_();
    targets_ = torch::randint(kVocab, {kRows}, torch::kInt64);
  }

  [[nodiscard]] RowTiles tiles() const {
    return {kVocab, kWidth, static_cast<std::uint64_t>(GetParam().tile_rows * kWidth)};
  }
  [[nodiscard]] Tensor loss() const {
    const SharedInput shared(hidden_);
    std::vector<Tensor> statistics;
    for (std::int64_t tile = 0; tile < tiles().count(); ++tile) {
      const Tensor rows = weight_.narrow(0, tiles().begin(tile), tiles().size(tile));
      statistics.push_back(
          tile_statistics(shared.take(), rows, targets_, tiles(), tile, GetParam().chunk_rows));
    }
    return loss_of_tiles(statistics);
  }

  Tensor hidden_, weight_, targets_;
};

TEST_P(TiledCrossEntropy, IsThatOfTorchInDoublePrecisionUpToItsRoundings) {
  const torch::ScalarType format = GetParam().format;
  const double scale = 1024.0;  // stands for a loss scale
  const Tensor value = loss();
  (value * scale).backward();

  const Tensor x = hidden_.detach().to(torch::kFloat64).requires_grad_();
  const Tensor w = weight_.detach().to(torch::kFloat64).requires_grad_();
  const Tensor logits = torch::linear(x, w);
  const Tensor expected = torch::nn::functional::cross_entropy(logits, targets_);
  (expected * scale).backward();

  // Roundings of products and of g to their format, and of the results to the operands'.
  const double product = format == torch::kBFloat16 ? 0x1p-8 : 1e-6;
  const double result = format == torch::kBFloat16  ? 0x1p-8
                        : format == torch::kFloat16 ? 0x1p-11
                                                    : 0x1p-24;
  const double of_logits = product * logits.abs().max().item<double>();
  EXPECT_EQ(value.scalar_type(), torch::kFloat32);
  EXPECT_NEAR(value.item<double>(), expected.item<double>(), 2 * of_logits + 1e-6);

  const Tensor p = torch::softmax(logits.detach(), 1);
  const Tensor signed_g = p - torch::one_hot(targets_, kVocab).to(torch::kFloat64);
  const Tensor g = signed_g.abs();
  const Tensor error = product * g + 2.1 * of_logits * p;
  const double factor = scale / static_cast<double>(kRows);
  const auto excess = [](const Tensor& actual, const Tensor& exact, const Tensor& allowed) {
    return ((actual.to(torch::kFloat64) - exact).abs() / (allowed + 1e-7)).max().item<double>();
  };
  EXPECT_EQ(weight_.grad().scalar_type(), format);
  const Tensor of_w =
      torch::mm(error.t(), x.detach().abs()) + torch::mm(product * g.t(), x.detach().abs());
  EXPECT_LE(excess(weight_.grad(), w.grad(), factor * of_w + 1.01 * result * w.grad().abs()), 1.0);

  // Each tile's share of dx has a rounding of its own, and so has their sum.
  Tensor shares = torch::zeros_like(x);
  for (std::int64_t tile = 0; tile < tiles().count(); ++tile) {
    const std::int64_t begin = tiles().begin(tile), size = tiles().size(tile);
    shares += torch::mm(signed_g.narrow(1, begin, size), w.detach().narrow(0, begin, size)).abs();
  }
  EXPECT_EQ(hidden_.grad().scalar_type(), format);
  const Tensor of_x = torch::mm(error, w.detach().abs()) + torch::mm(product * g, w.detach().abs());
  EXPECT_LE(excess(hidden_.grad(), x.grad(),
                   factor * (of_x + 1.01 * result * shares) + 1.01 * result * x.grad().abs()),
            1.0);
}

INSTANTIATE_TEST_SUITE_P(
    All, TiledCrossEntropy,
    ::testing::Values(Case{torch::kFloat32, 30, 100}, Case{torch::kFloat32, 7, 5},
                      Case{torch::kBFloat16, 30, 100}, Case{torch::kBFloat16, 30, 10},
                      Case{torch::kFloat16, 30, 10}, Case{torch::kFloat32, 1000, 1}));

TEST(TiledCrossEntropy, OfCappedLogitsIsThatOfTheWhole) {
  torch::manual_seed(4);
  const double cap = 1.3;
  const RowTiles tiles(21, 8, 40);
  const Tensor hidden = torch::randn({9, 8}).requires_grad_();
  const Tensor weight = torch::randn({21, 8}).requires_grad_();
  const Tensor targets = torch::randint(21, {9}, torch::kInt64);
  const Tensor whole = linear_cross_entropy(hidden, weight, targets, std::nullopt, cap);
  whole.backward();
  const Tensor of_hidden = hidden.grad().clone(), of_weight = weight.grad().clone();
  hidden.mutable_grad() = weight.mutable_grad() = Tensor();
  const SharedInput shared(hidden);
  std::vector<Tensor> statistics;
  for (std::int64_t tile = 0; tile < tiles.count(); ++tile) {
    const Tensor rows = weight.narrow(0, tiles.begin(tile), tiles.size(tile));
    statistics.push_back(
        tile_statistics(shared.take(), rows, targets, tiles, tile, std::nullopt, cap));
  }
  const Tensor loss = loss_of_tiles(statistics);
  loss.backward();
  EXPECT_NEAR(loss.item<double>(), whole.item<double>(), 1e-6);
  EXPECT_TRUE(torch::allclose(hidden.grad(), of_hidden, 1e-4, 1e-6));
  EXPECT_TRUE(torch::allclose(weight.grad(), of_weight, 1e-4, 1e-6));
}

TEST(TiledCrossEntropy, OfLargeLogitsIsFinite) {
  const RowTiles tiles(4, 1, 2);
  const Tensor hidden = torch::ones({1, 1}).requires_grad_(), targets = torch::tensor({3});
  const Tensor weight = torch::tensor({{300.0F}, {-300.0F}, {-400.0F}, {299.0F}});
  std::vector<Tensor> statistics;
  for (const std::int64_t tile : {0, 1}) {
    statistics.push_back(
        tile_statistics(hidden, weight.narrow(0, 2 * tile, 2), targets, tiles, tile));
  }
  const Tensor loss = loss_of_tiles(statistics);
  EXPECT_NEAR(loss.item<double>(), 1.3132617, 1e-4);  // log(1 + e)
  loss.backward();
  EXPECT_TRUE(torch::isfinite(hidden.grad()).all().item<bool>());
}

TEST(TiledCrossEntropy, RefusesAGradientOfAGradientInTheWordsOfTheWholeHeadsLoss) {
  const RowTiles tiles(4, 3, 12);
  const Tensor hidden = torch::ones({2, 3}).requires_grad_(), weight = torch::ones({4, 3});
  const Tensor targets = torch::tensor({0, 3});
  const auto refusal = [&](const Tensor& loss, const std::string& function) {
    std::string message = support::message_of<UsageError>([&] {
      (void)torch::autograd::grad({loss}, {hidden}, {}, /*retain_graph=*/true,
                                  /*create_graph=*/true);
    });
    const std::size_t place = message.find(function);
    EXPECT_NE(place, std::string::npos) << message;
    return place == std::string::npos ? message : message.erase(place, function.size());
  };
  const std::string of_whole =
      refusal(linear_cross_entropy(hidden, weight, targets), "linear_cross_entropy");
  const std::string of_tiles = refusal(
      loss_of_tiles({tile_statistics(hidden, weight, targets, tiles, 0)}), "tile_statistics");
  EXPECT_EQ(of_tiles, of_whole);
  EXPECT_FALSE(of_whole.empty());
}

TEST(TiledCrossEntropy, RefusesOtherShapesAndTargetsBeyondTheVocabulary) {
  const RowTiles tiles(4, 3, 6);
  const Tensor hidden = torch::ones({2, 3}), weight = torch::ones({2, 3});
  const Tensor targets = torch::tensor({0, 3});
  EXPECT_THROW((void)tile_statistics(hidden, torch::ones({3, 3}), targets, tiles, 0), UsageError);
  EXPECT_THROW((void)tile_statistics(hidden, weight, torch::tensor({1}), tiles, 0), UsageError);
  EXPECT_THROW((void)tile_statistics(hidden, weight, targets, tiles, 0, 0), UsageError);
  EXPECT_ANY_THROW((void)tile_statistics(hidden, weight, torch::tensor({0, 4}), tiles, 1));
  EXPECT_ANY_THROW((void)tile_statistics(hidden, weight, torch::tensor({0, -1}), tiles, 0));
}

}  // namespace
}  // namespace strata::models::tiled_cross_entropy_test
