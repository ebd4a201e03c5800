#include <gtest/gtest.h>

#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "promise/training_run.h"

/// \file
/// Promise 1: offloaded fp32 training is torch::optim::AdamW's, at most 1 ulp apart a step.

namespace strata::promise::same_numbers_fp32_test {
namespace {

/// Square roots as IEEE 754 asks for them and Strata takes them, in place of LibTorch's for the
/// whole of this process. LibTorch's come from MKL, which is 1 ulp off in up to a sixth of the
/// cases, depending on the processor (docs/decisions/0007).
torch::Tensor exact_sqrt(const torch::Tensor& input) {
  TORCH_CHECK(input.scalar_type() == torch::kFloat32 && input.is_contiguous());
  torch::Tensor root = torch::empty_like(input);
  const auto* x = input.const_data_ptr<float>();
  std::transform(x, x + input.numel(), root.mutable_data_ptr<float>(),
                 [](float value) { return std::sqrt(value); });
  return root;
}

TORCH_LIBRARY_IMPL(aten, CPU, library) { library.impl("sqrt", exact_sqrt); }

/// The distance between two floats next to each other at the magnitude of `value`.
float ulp_of(float value) {
  const float magnitude = std::max(std::abs(value), std::numeric_limits<float>::min());
  return std::nextafter(magnitude, std::numeric_limits<float>::infinity()) - magnitude;
}

/// The largest difference between `a` and `b`, in ulps of the largest number in the update that
/// made them: the parameter before, after, or the change. Where an update nearly cancels a
/// parameter, what is left is as uncertain as the numbers that were subtracted.
double largest_ulps(const torch::Tensor& before, const torch::Tensor& a, const torch::Tensor& b) {
  const auto* p = before.const_data_ptr<float>();
  const auto* x = a.const_data_ptr<float>();
  const auto* y = b.const_data_ptr<float>();
  double largest = 0.0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const float scale = std::max({std::abs(p[i]), std::abs(x[i]), std::abs(x[i] - p[i])});
    largest = std::max(largest, std::abs(static_cast<double>(x[i]) - y[i]) / ulp_of(scale));
  }
  return largest;
}

/// Does the same job in plain LibTorch.
///
/// A weight with two uses, the tied embedding, gets its gradients use by use in the engine: when
/// micro-batches are accumulated, the sum of the head's and the embedding's gradient is not made
/// before it is added. Autograd makes it first, which rounds differently; so here the uses are two
/// parameters with one value, whose gradients are added in the engine's order.
class PlainRun {
 public:
  PlainRun(const formats::DsConfig& config, const models::Gpt2Config& model)
      : config_(config),
        model_config_(model),
        uses_apart_(model.tie_word_embeddings && config.gradient_accumulation_steps > 1),
        model_(with_uses_apart(model, uses_apart_), Precision::kFp32,
               models::random_initializer(model, kSeed)),
        parameters_(parameters_to_train()),
        optimizer_(parameters_, torch::optim::AdamWOptions(config.optimizer.lr)
                                    .betas({config.optimizer.beta1, config.optimizer.beta2})
                                    .eps(config.optimizer.eps)
                                    .weight_decay(config.optimizer.weight_decay)) {
    tie();
  }

  void step() {
    optimizer_.zero_grad();
    torch::Tensor tied_gradient;
    const std::int64_t accumulation = config_.gradient_accumulation_steps;
    for (std::int64_t micro = 0; micro < accumulation; ++micro) {
      torch::manual_seed(static_cast<std::uint64_t>(batches_));
      const Batch batch = make_batch(model_config_, batches_++);
      torch::Tensor loss = model_.loss(batch.tokens, batch.targets);
      if (accumulation > 1) loss = loss * (1.0 / static_cast<double>(accumulation));
      loss.backward();
      if (uses_apart_) {
        for (torch::Tensor* use : {&head_, &embedding_}) {  // backward comes to the head first
          tied_gradient = tied_gradient.defined() ? tied_gradient + use->grad() : use->grad();
          use->mutable_grad().reset();
        }
      }
    }
    if (uses_apart_) embedding_.mutable_grad() = tied_gradient;
    clip();
    optimizer_.step();
    tie();
  }

  /// Overwrites the parameters.
  void set_parameters(const Parameters& values) {
    torch::NoGradGuard no_grad;
    model_.visit_parameters([&](const std::string& name, const torch::Tensor& value) {
      if (const auto found = values.find(name); found != values.end()) {
        torch::Tensor(value).copy_(found->second);
      }
    });
    tie();
  }

  models::Gpt2& model() { return model_; }

 private:
  static models::Gpt2Config with_uses_apart(models::Gpt2Config model, bool uses_apart) {
    if (uses_apart) model.tie_word_embeddings = false;
    return model;
  }

  /// Every parameter once; remembers the two uses of the tied one.
  std::vector<torch::Tensor> parameters_to_train() {
    std::vector<torch::Tensor> all;
    model_.visit_parameters([&](const std::string& name, const torch::Tensor& value) {
      if (name == "transformer.wte.weight") embedding_ = value;
      if (name == "lm_head.weight") head_ = value;
      if (name != "lm_head.weight" || !uses_apart_) all.push_back(value);
    });
    return all;
  }

  void tie() {
    torch::NoGradGuard no_grad;
    if (uses_apart_) head_.copy_(embedding_);
  }

  /// Clips by the exact norm. clip_grad_norm_ sums in fp32, so that its norm is some ulps off.
  void clip() {
    if (config_.gradient_clipping == 0.0) return;
    torch::NoGradGuard no_grad;
    double sum_of_squares = 0.0;
    for (const torch::Tensor& p : parameters_) {
      sum_of_squares += p.grad().to(torch::kFloat64).square().sum().item<double>();
    }
    const double coefficient =
        std::min(1.0, config_.gradient_clipping / (std::sqrt(sum_of_squares) + 1e-6));
    for (const torch::Tensor& p : parameters_) p.grad().mul_(coefficient);
  }

  formats::DsConfig config_;
  models::Gpt2Config model_config_;
  bool uses_apart_;
  models::Gpt2 model_;
  torch::Tensor embedding_, head_;
  std::vector<torch::Tensor> parameters_;
  torch::optim::AdamW optimizer_;
  std::int64_t batches_ = 0;
};

/// Trains both for `steps` and expects every parameter within 1 ulp after each step that starts
/// from the same parameters.
void expect_at_most_one_ulp_a_step(const formats::DsConfig& config, int steps,
                                   const models::Gpt2Config& model = small_model()) {
  EngineRun offloaded(config, model);
  PlainRun plain(config, model);
  Parameters before = offloaded.parameters();
  for (int step = 1; step <= steps; ++step) {
    offloaded.step();
    plain.step();
    const Parameters expected = parameters_of(plain.model());
    const Parameters actual = offloaded.parameters();
    for (const auto& [name, value] : actual) {
      ASSERT_LE(largest_ulps(before.at(name), value, expected.at(name)), 1.0)
          << name << " in step " << step;
    }
    plain.set_parameters(actual);
    before = actual;
  }
}

TEST(SameNumbersFp32, IsComparedWithExactSquareRoots) {
  const torch::Tensor x = torch::rand({1 << 16});
  const torch::Tensor root = x.sqrt();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    ASSERT_EQ(root.const_data_ptr<float>()[i], std::sqrt(x.const_data_ptr<float>()[i]));
  }
}

TEST(SameNumbersFp32, EverythingOnNvmeIsWithinOneUlpAStepOfTorchAdamW) {
  ScratchDirectory scratch;
  formats::DsConfig config = nvme_config(scratch.path(), Precision::kFp32);
  config.gradient_clipping = 0.0;
  expect_at_most_one_ulp_a_step(config, 20);
}

TEST(SameNumbersFp32, ClippedStepsAreWithinOneUlpOfTorchAdamW) {
  ScratchDirectory scratch;
  expect_at_most_one_ulp_a_step(nvme_config(scratch.path(), Precision::kFp32), 20);
}

TEST(SameNumbersFp32, AccumulatedStepsAreWithinOneUlpOfTorchAdamW) {
  ScratchDirectory scratch;
  for (const bool tied : {false, true}) {
    expect_at_most_one_ulp_a_step(nvme_config(scratch.path(), Precision::kFp32, 3), 20,
                                  small_model(tied));
  }
}

TEST(SameNumbersFp32, StepsWithoutRecomputationAreWithinOneUlpOfTorchAdamW) {
  ScratchDirectory scratch;
  formats::DsConfig config = nvme_config(scratch.path(), Precision::kFp32);
  config.strata.recompute = false;
  expect_at_most_one_ulp_a_step(config, 20);
}

}  // namespace
}  // namespace strata::promise::same_numbers_fp32_test
