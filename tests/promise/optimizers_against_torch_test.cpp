#include <gtest/gtest.h>

#include <torch/torch.h>

#include <vector>

#include "strata/cpu_adam/cpu_adam.h"
#include "strata/optim_cpu/update.h"

/// \file
/// Promise 1, the arithmetic alone: a thousand steps of every optimizer that LibTorch has too, side
/// by side with it, give its bits. This process has exact square roots, see
/// same_numbers_fp32_test.cpp.

namespace strata::promise::optimizers_against_torch_test {
namespace {

constexpr int kSteps = 1000;

/// A small regression whose gradients never die out: inputs and noise are new in every step. The
/// sizes leave remainders of every vector width.
class Problem {
 public:
  Problem() {
    torch::manual_seed(5);
    for (const std::vector<std::int64_t>& shape :
         {std::vector<std::int64_t>{37, 41}, {41}, {41, 3}, {3}}) {
      parameters_.push_back((torch::randn(shape) * 0.3).requires_grad_());
    }
  }

  [[nodiscard]] const std::vector<torch::Tensor>& parameters() const { return parameters_; }

  /// Leaves the gradients of step `step` in the parameters.
  void differentiate(int step) {
    torch::manual_seed(static_cast<std::uint64_t>(1000 + step));
    const torch::Tensor x = torch::randn({16, 37});
    const torch::Tensor target = x.slice(1, 0, 3).sin() + 0.1 * torch::randn({16, 3});
    const torch::Tensor y =
        torch::tanh(x.matmul(parameters_[0]) + parameters_[1]).matmul(parameters_[2]) +
        parameters_[3];
    for (const torch::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
    torch::mse_loss(y, target).backward();
  }

 private:
  std::vector<torch::Tensor> parameters_;
};

/// A copy of a parameter, updated by Strata in memory.
class Copy {
 public:
  explicit Copy(const torch::Tensor& parameter)
      : weight_(parameter.detach().clone()),
        m_(torch::zeros_like(weight_)),
        v_(torch::zeros_like(weight_)) {}

  void update(const optim::OptimizerOptions& options, int step, const torch::Tensor& gradient) {
    StateFormat format;
    format.has_m = optim::keeps_m(options);
    format.has_v = optim::keeps_v(options);
    optim_cpu::update(options, {.step = step},
                      {.format = format,
                       .gradient_format = Precision::kFp32,
                       .count = static_cast<std::size_t>(weight_.numel()),
                       .weight = weight_.data_ptr(),
                       .master = nullptr,
                       .m = format.has_m ? m_.data_ptr() : nullptr,
                       .v = format.has_v ? v_.data_ptr() : nullptr,
                       .gradient = gradient.const_data_ptr()});
  }

  /// Elements whose bits differ from the parameter's.
  [[nodiscard]] std::int64_t differences(const torch::Tensor& parameter) const {
    return (weight_.view(torch::kInt32) != parameter.detach().view(torch::kInt32))
        .sum()
        .item<std::int64_t>();
  }

 private:
  torch::Tensor weight_, m_, v_;
};

/// Trains with `theirs` over a problem's parameters, and copies of them with `ours` on the same
/// gradients.
template <class Optimizer, class Options>
void expect_equal_bits_for_a_thousand_steps(const Options& theirs,
                                            const optim::OptimizerOptions& ours) {
  Problem problem;
  Optimizer optimizer(problem.parameters(), theirs);
  std::vector<Copy> copies(problem.parameters().begin(), problem.parameters().end());
  for (int step = 1; step <= kSteps; ++step) {
    problem.differentiate(step);
    for (std::size_t i = 0; i < copies.size(); ++i) {
      copies[i].update(ours, step, problem.parameters()[i].grad());
    }
    optimizer.step();
    for (std::size_t i = 0; i < copies.size(); ++i) {
      ASSERT_EQ(copies[i].differences(problem.parameters()[i]), 0)
          << "of " << problem.parameters()[i].numel() << " elements of parameter " << i
          << " in step " << step;
    }
  }
}

TEST(OptimizersAgainstTorch, AdamWithL2GivesTheSameBits) {
  expect_equal_bits_for_a_thousand_steps<torch::optim::Adam>(
      torch::optim::AdamOptions(2e-3).betas({0.85, 0.98}).eps(1e-7).weight_decay(0.03),
      optim::AdamOptions{.lr = 2e-3,
                         .beta1 = 0.85,
                         .beta2 = 0.98,
                         .eps = 1e-7,
                         .weight_decay = 0.03,
                         .decoupled_weight_decay = false});
}

TEST(OptimizersAgainstTorch, AdamWGivesTheSameBits) {
  expect_equal_bits_for_a_thousand_steps<torch::optim::AdamW>(
      torch::optim::AdamWOptions(2e-3).weight_decay(0.03),
      optim::AdamOptions{.lr = 2e-3, .weight_decay = 0.03});
}

TEST(OptimizersAgainstTorch, SgdWithoutMomentumGivesTheSameBits) {
  expect_equal_bits_for_a_thousand_steps<torch::optim::SGD>(
      torch::optim::SGDOptions(0.05).weight_decay(0.01),
      optim::SgdOptions{.lr = 0.05, .weight_decay = 0.01});
}

TEST(OptimizersAgainstTorch, SgdWithMomentumAndDampeningGivesTheSameBits) {
  expect_equal_bits_for_a_thousand_steps<torch::optim::SGD>(
      torch::optim::SGDOptions(0.05).momentum(0.9).dampening(0.3).weight_decay(0.01),
      optim::SgdOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01});
}

TEST(OptimizersAgainstTorch, SgdWithNesterovsMomentumGivesTheSameBits) {
  expect_equal_bits_for_a_thousand_steps<torch::optim::SGD>(
      torch::optim::SGDOptions(0.05).momentum(0.9).nesterov(true).weight_decay(0.01),
      optim::SgdOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true});
}

TEST(OptimizersAgainstTorch, AdagradGivesTheSameBits) {
  expect_equal_bits_for_a_thousand_steps<torch::optim::Adagrad>(
      torch::optim::AdagradOptions(0.03).lr_decay(0.01).weight_decay(0.02),
      optim::AdagradOptions{.lr = 0.03, .lr_decay = 0.01, .weight_decay = 0.02});
}

TEST(OptimizersAgainstTorch, CpuAdamOverTheParametersOfAModelGivesTheSameBits) {
  Problem ours, theirs;
  CpuAdam optimizer(ours.parameters(), CpuAdamOptions(2e-3).weight_decay(0.03));
  torch::optim::AdamW reference(theirs.parameters(),
                                torch::optim::AdamWOptions(2e-3).weight_decay(0.03));
  for (int step = 1; step <= kSteps; ++step) {
    ours.differentiate(step);
    theirs.differentiate(step);
    optimizer.step();
    reference.step();
    for (std::size_t i = 0; i < ours.parameters().size(); ++i) {
      ASSERT_TRUE(torch::equal(ours.parameters()[i], theirs.parameters()[i]))
          << "parameter " << i << " in step " << step;
    }
  }
}

}  // namespace
}  // namespace strata::promise::optimizers_against_torch_test
