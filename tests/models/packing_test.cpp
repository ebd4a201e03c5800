#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "models/everything_on_nvme.h"
#include "models/linear_cross_entropy.h"
#include "models/small_gpt2.h"
#include "models/small_llama.h"
#include "strata/base/error.h"
#include "strata/models/causal_lm.h"
#include "strata/models/model_config.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/engine.h"
#include "support/message_of.h"

/// \file
/// Documents that lie one behind the other have the loss and the gradients of each by itself, and
/// the mean is over the tokens that bear loss, however they are spread over micro-batches.

namespace strata::models::packing_test {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

enum class Family { kGpt2, kLlama };

ModelConfig config_of(Family family, std::int64_t vocab_size) {
  if (family == Family::kGpt2) {
    Gpt2Config config = small_gpt2();
    config.initializer_range = 0.2;
    config.vocab_size = vocab_size;
    return config;
  }
  LlamaConfig config = small_llama_with_all();  // a window of 5 in one layer
  config.initializer_range = 0.2;
  config.vocab_size = vocab_size;
  return config;
}

struct Document {
  std::vector<std::int64_t> tokens, targets;
};

/// Documents of these lengths, whose first third bears no loss.
std::vector<Document> documents(const std::vector<std::int64_t>& lengths) {
  std::vector<Document> made;
  std::int64_t next = 1;
  for (const std::int64_t length : lengths) {
    Document& document = made.emplace_back();
    for (std::int64_t i = 0; i < length; ++i) {
      document.tokens.push_back(next % 31);
      next = next * 7 + 3 + i;
      document.targets.push_back(i < length / 3 ? kNoTarget : next % 31);
    }
  }
  return made;
}

Tensor row_of(const std::vector<std::int64_t>& values) {
  return torch::tensor(values, torch::kInt64).unsqueeze(0);
}

/// A row of documents, one behind the other.
TokenBatch packed(const std::vector<Document>& row) {
  std::vector<std::int64_t> tokens, targets, positions;
  for (const Document& document : row) {
    tokens.insert(tokens.end(), document.tokens.begin(), document.tokens.end());
    targets.insert(targets.end(), document.targets.begin(), document.targets.end());
    const std::size_t begin = positions.size();
    positions.resize(tokens.size());
    std::iota(positions.begin() + static_cast<std::ptrdiff_t>(begin), positions.end(), 0);
  }
  return {.tokens = row_of(tokens), .targets = row_of(targets), .positions = row_of(positions)};
}

TokenBatch rows_of(const TokenBatch& first, const TokenBatch& second) {
  return {.tokens = torch::cat({first.tokens, second.tokens}),
          .targets = torch::cat({first.targets, second.targets}),
          .positions = torch::cat({first.positions, second.positions})};
}

std::int64_t bearing(const Tensor& targets) {
  return targets.ne(kNoTarget).sum().item<std::int64_t>();
}

/// The sum of the losses of documents that are computed one by one; leaves their gradients.
double one_by_one(CausalLm& model, const std::vector<Document>& all, double divisor) {
  double sum = 0.0;
  for (const Document& document : all) {
    const Tensor loss = model.loss({.tokens = row_of(document.tokens),
                                    .targets = row_of(document.targets),
                                    .divisor = divisor});
    loss.backward();
    sum += loss.item<double>();
  }
  return sum;
}

std::vector<Tensor> taken_gradients(const CausalLm& model) {
  std::vector<Tensor> gradients;
  for (Tensor& parameter : model.parameters()) {
    gradients.push_back(parameter.grad().clone());
    parameter.mutable_grad().reset();
  }
  return gradients;
}

void expect_close(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double allowed = 2e-6 * std::max(1.0, expected[i].abs().max().item<double>());
    EXPECT_LE((actual[i] - expected[i]).abs().max().item<double>(), allowed) << "parameter " << i;
  }
}

class Packing : public ::testing::TestWithParam<Family> {
 protected:
  Packing() { fs::create_directories(root_); }
  ~Packing() override { fs::remove_all(root_); }

  [[nodiscard]] std::unique_ptr<CausalLm> in_memory(std::int64_t vocab_size = 37) const {
    const ModelConfig config = config_of(GetParam(), vocab_size);
    return make_causal_lm(config, Precision::kFp32, random_initializer(config, 3));
  }

  fs::path root_ =
      fs::path(::testing::TempDir()) / ("strata_packing_" + std::to_string(::getpid()));
  const std::vector<Document> first_ = documents({7, 1, 12}), second_ = documents({16, 4});
};

TEST_P(Packing, APackedBatchHasTheLossAndTheGradientsOfItsDocumentsOneByOne) {
  const auto model = in_memory();
  TokenBatch batch = rows_of(packed(first_), packed(second_));
  const auto count = static_cast<double>(bearing(batch.targets));
  const Tensor loss = model->loss(batch);
  loss.backward();
  const std::vector<Tensor> gradients = taken_gradients(*model);
  const double expected = one_by_one(*model, first_, count) + one_by_one(*model, second_, count);
  EXPECT_NEAR(loss.item<double>(), expected, 1e-6);
  expect_close(gradients, taken_gradients(*model));

  batch.positions.reset();  // as one document: other numbers
  EXPECT_GT(std::abs(model->loss(batch).item<double>() - expected), 1e-3);
}

TEST_P(Packing, PaddingBehindADocumentChangesNothing) {
  const auto model = in_memory();
  const std::vector<Document> one = documents({9});
  TokenBatch batch = packed(one);
  batch.positions.reset();
  const double expected = model->loss(batch).item<double>();
  batch.tokens = torch::constant_pad_nd(batch.tokens, {0, 5}, 11);
  batch.targets = torch::constant_pad_nd(batch.targets, {0, 5}, kNoTarget);
  EXPECT_NEAR(model->loss(batch).item<double>(), expected, 1e-6);
}

std::uint64_t block_bytes(const ModelConfig& config) {
  return unit_layouts(config)[1].trainable_count * sizeof(float);
}

/// A batch that goes unit by unit, in tiles where `tiles` is true, and the same loops in memory.
void expect_steps_of_documents(Family family, const fs::path& root, bool tiles,
                               const std::vector<std::vector<Document>>& rows) {
  const ModelConfig config = config_of(family, tiles ? 500 : 37);
  formats::DsConfig given = everything_on_nvme("packing", root, Precision::kFp32, 2);
  // Of GPT-2 blocks are cut too; of Llama the vocabulary alone.
  if (tiles) given.strata.tile_bytes = family == Family::kGpt2 ? 37 * 16 * 4 : block_bytes(config);
  Engine engine(given);
  const auto model = make_causal_lm(config, engine, random_initializer(config, 3));
  const auto reference = make_causal_lm(config, Precision::kFp32, random_initializer(config, 3));
  std::vector<TokenBatch> batches;
  std::int64_t count = 0;
  for (const std::vector<Document>& row : rows) {
    batches.push_back(packed(row));
    count += bearing(batches.back().targets);
  }
  std::vector<UnitSequence::Tensors> micro_batches;
  for (TokenBatch& batch : batches) {
    batch.divisor = static_cast<double>(count) / static_cast<double>(rows.size());
    micro_batches.push_back(batch.micro_batch());
    const torch::NoGradGuard no_grad;
    EXPECT_NEAR(model->loss(batch).item<double>(), reference->loss(batch).item<double>(), 1e-5);
  }
  const BatchReport report = engine.train_batch(model->sequence(), micro_batches);
  double sum = 0.0, squares = 0.0;
  for (const std::vector<Document>& row : rows) {
    sum += one_by_one(*reference, row, static_cast<double>(count));
  }
  for (const Tensor& gradient : taken_gradients(*reference)) {
    squares += gradient.to(torch::kFloat64).square().sum().item<double>();
  }
  EXPECT_NEAR((report.losses[0] + report.losses[1]) / 2, sum, 1e-5);
  EXPECT_NEAR(report.step.grad_norm, std::sqrt(squares), 1e-5 * std::sqrt(squares));
}

TEST_P(Packing, MicroBatchesOfDifferentCountsAddUpToTheMeanOverAllTokensThatBearLoss) {
  expect_steps_of_documents(GetParam(), root_, /*tiles=*/false, {first_, documents({2, 3})});
  expect_steps_of_documents(GetParam(), root_, /*tiles=*/true, {first_, documents({2, 3})});
}

TEST_P(Packing, AMicroBatchInWhichNothingBearsLossAddsNothing) {
  std::vector<Document> silent = documents({5, 3});
  for (Document& document : silent) document.targets.assign(document.targets.size(), kNoTarget);
  expect_steps_of_documents(GetParam(), root_, /*tiles=*/false, {first_, silent});
  expect_steps_of_documents(GetParam(), root_, /*tiles=*/true, {first_, silent});
}

TEST_P(Packing, PositionsThatMakeNoDocumentsAreRefused) {
  const auto model = in_memory();
  TokenBatch batch = packed(first_);
  const auto refusal = [&](const Tensor& positions) {
    batch.positions = positions;
    return support::message_of<UsageError>([&] { (void)model->loss(batch); });
  };
  EXPECT_FALSE(refusal(batch.positions + 1).empty());
  EXPECT_FALSE(refusal(batch.positions.to(torch::kInt32)).empty());
  EXPECT_FALSE(refusal(batch.positions.narrow(1, 0, 4)).empty());
  batch.divisor = 0.0;
  EXPECT_FALSE(refusal({}).empty());
}

INSTANTIATE_TEST_SUITE_P(Families, Packing, ::testing::Values(Family::kGpt2, Family::kLlama),
                         [](const auto& one) {
                           return one.param == Family::kGpt2 ? "Gpt2" : "Llama";
                         });

TEST(LossWithoutTargets, IsThatOfTorchWhichIgnoresThemToo) {
  torch::manual_seed(1);
  const Tensor hidden = torch::randn({9, 4}).requires_grad_();
  const Tensor weight = torch::randn({6, 4}).requires_grad_();
  Tensor targets = torch::randint(6, {9}, torch::kInt64);
  targets.index_put_({torch::tensor({0, 3, 4, 8})}, kNoTarget);
  const std::vector<Tensor> operands = {hidden, weight};
  const Tensor loss = linear_cross_entropy(hidden, weight, targets, 2);
  const std::vector<Tensor> gradients = torch::autograd::grad({loss}, operands);
  const Tensor expected = torch::cross_entropy_loss(torch::linear(hidden, weight), targets);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6);
  expect_close(gradients, torch::autograd::grad({expected}, operands));

  const Tensor nothing = linear_cross_entropy(hidden, weight, torch::full_like(targets, kNoTarget),
                                              2, std::nullopt, {}, 5.0);
  EXPECT_EQ(nothing.item<double>(), 0.0);
  for (const Tensor& gradient : torch::autograd::grad({nothing}, operands)) {
    EXPECT_EQ(gradient.abs().max().item<double>(), 0.0);
  }
}

}  // namespace
}  // namespace strata::models::packing_test
