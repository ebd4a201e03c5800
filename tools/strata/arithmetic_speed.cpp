#include "arithmetic_speed.h"

#include <torch/torch.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "median.h"
#include "plural.h"
#include "strata/base/clock.h"
#include "strata/base/error.h"
#include "strata/models/causal_lm.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/tensor_pool.h"

namespace strata::tool {
namespace {

using models::MicroBatch;
using models::ModelConfig;

constexpr double kPassSeconds = 0.5;       // of the larger model, about
constexpr double kSmallPassSeconds = 0.7;  // of one block and the head, at most
constexpr double kMeasuringSeconds = 2.5;  // of all passes that count, unless they are too few
constexpr std::size_t kRoundsMin = 3;
constexpr std::int64_t kFirstTokens = 64;  // how fast the machine is, is found with these

/// Seconds of one micro-batch.
struct Pass {
  double forward = 0, backward = 0;
};

/// Waves: values of a size that a model has, made faster than random ones.
void fill(const std::string& /*name*/, torch::Tensor& value) {
  const torch::Tensor waves = torch::arange(value.numel(), torch::kFloat32).sin_().mul_(0.02);
  value.copy_(waves.view(value.sizes()));
}

double flop_of(const ModelConfig& config, const MicroBatch& micro_batch, bool recompute) {
  double flop = 0;
  for (const zero3::UnitUse& use : models::step_work(config, micro_batch, 1, recompute).uses) {
    flop += use.forward + use.backward + use.recompute;
  }
  return flop;
}

/// A model in memory whose passes are timed.
class TimedModel {
 public:
  TimedModel(const ModelConfig& config, const ArithmeticTask& task)
      : vocab_size_(config.vocab_size()),
        model_(models::make_causal_lm(config, task.precision, fill)) {
    if (!task.sums_gradients) return;
    for (const torch::Tensor& parameter : model_->parameters()) {
      sums_.push_back(torch::zeros(parameter.sizes(), torch::kFloat32));
    }
  }

  Pass pass(const MicroBatch& micro_batch) {
    const torch::Tensor tokens =
        torch::randint(0, vocab_size_, {micro_batch.sequences, micro_batch.length}, torch::kInt64);
    const Time begin = kSystemClock.now();
    const torch::Tensor loss = model_->loss(tokens, tokens);
    const double forward = seconds_since(begin);
    loss.backward();
    take_gradients();
    const double all = seconds_since(begin);
    return {.forward = forward, .backward = all - forward};
  }

 private:
  void take_gradients() {
    const torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> parameters = model_->parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (!sums_.empty()) sums_[i].add_(parameters[i].grad());
      parameters[i].mutable_grad().reset();
    }
  }

  std::int64_t vocab_size_;
  std::unique_ptr<models::CausalLm> model_;
  std::vector<torch::Tensor> sums_;
};

Pass median_of(const std::vector<Pass>& passes) {
  std::vector<double> forward, backward;
  for (const Pass& pass : passes) {
    forward.push_back(pass.forward);
    backward.push_back(pass.backward);
  }
  return {.forward = median(std::move(forward)), .backward = median(std::move(backward))};
}

/// Bytes of a model with gradients and their sums, and of its activations.
double bytes_of(const ModelConfig& config, const MicroBatch& micro_batch,
                const ArithmeticTask& task) {
  const std::uint64_t number_bytes = weight_bytes(task.precision);
  const double per_parameter =
      2.0 * static_cast<double>(number_bytes) + (task.sums_gradients ? sizeof(float) : 0);
  return per_parameter * static_cast<double>(models::parameter_count(config)) +
         static_cast<double>(models::estimated_activation_bytes(config, micro_batch, 1,
                                                                number_bytes, /*recompute=*/false));
}

/// The widest shape of the task's whose one block fits.
ModelConfig fitting_width(const ArithmeticTask& task) {
  ModelConfig config = task.model;
  const MicroBatch least{.sequences = 1, .length = std::min(kFirstTokens, task.micro_batch.length)};
  const auto allowed = static_cast<double>(task.memory_bytes);
  while (bytes_of(config.with_layers(1), least, task) > allowed) {
    std::optional<ModelConfig> narrower = config.narrower();
    if (!narrower) {
      throw BudgetError("forward and backward cannot be measured in " +
                        format_bytes(task.memory_bytes) +
                        " of memory; free some, or plan with a machine file");
    }
    config = *std::move(narrower);
  }
  return config;
}

/// The largest part of the micro-batch that one block goes through in time and memory.
MicroBatch fitting_micro_batch(const ArithmeticTask& task, const ModelConfig& config,
                               TimedModel& one_block) {
  MicroBatch some{.sequences = 1, .length = std::min(kFirstTokens, task.micro_batch.length)};
  (void)one_block.pass(some);
  const Pass first = one_block.pass(some);
  const ModelConfig one = config.with_layers(1);
  const double seconds_per_flop =
      (first.forward + first.backward) / flop_of(one, some, /*recompute=*/false);
  MicroBatch fitting = task.micro_batch;
  const auto is_too_much = [&] {
    return flop_of(one, fitting, false) * seconds_per_flop > kSmallPassSeconds ||
           bytes_of(one, fitting, task) > static_cast<double>(task.memory_bytes);
  };
  while (is_too_much() && fitting.sequences > 1) fitting.sequences /= 2;
  while (is_too_much() && fitting.length > some.length) fitting.length /= 2;
  return fitting;
}

/// The blocks of the larger model.
std::int64_t fitting_blocks(const ArithmeticTask& task, const ModelConfig& config,
                            const MicroBatch& micro_batch, double one_block_seconds) {
  const double one = flop_of(config.with_layers(1), micro_batch, false);
  const double block = flop_of(config.with_layers(2), micro_batch, false) - one;
  const double seconds = one_block_seconds / one * block;
  const double in_time = std::max(2.0, 1 + (kPassSeconds - one_block_seconds) / seconds);
  auto blocks =
      static_cast<std::int64_t>(std::min(in_time, static_cast<double>(task.model.layers())));
  const auto allowed = static_cast<double>(task.memory_bytes);
  while (blocks > 1 && bytes_of(config.with_layers(1), micro_batch, task) +
                               bytes_of(config.with_layers(blocks), micro_batch, task) >
                           allowed) {
    --blocks;
  }
  return blocks;
}

std::string shape_text(const ArithmeticTask& task, const ModelConfig& config,
                       const MicroBatch& micro_batch, std::int64_t blocks) {
  const auto of = [](std::int64_t some, std::int64_t all) {
    return some == all ? std::to_string(all)
                       : std::to_string(some) + " (of " + std::to_string(all) + ")";
  };
  return "forward and backward in memory in " + std::string(name_of(task.precision)) + ", " +
         of(blocks, task.model.layers()) + " " + plural(task.model.layers(), "block") +
         " of width " + of(config.width(), task.model.width()) + " and the head, " +
         of(micro_batch.sequences, task.micro_batch.sequences) + " " +
         plural(task.micro_batch.sequences, "sequence") + " of " +
         of(micro_batch.length, task.micro_batch.length) + " " +
         plural(task.micro_batch.length, "token") +
         (task.sums_gradients ? ", gradients added up in fp32" : "");
}

}  // namespace

zero3::SourcedNumber measure_arithmetic(const ArithmeticTask& task, const Check& check) {
  const TensorPool pool;
  const ModelConfig config = fitting_width(task);
  check();
  TimedModel small(config.with_layers(1), task);
  const MicroBatch micro_batch = fitting_micro_batch(task, config, small);
  check();
  (void)small.pass(micro_batch);
  const Pass first = small.pass(micro_batch);
  const std::int64_t blocks =
      fitting_blocks(task, config, micro_batch, first.forward + first.backward);
  TimedModel large(config.with_layers(blocks), task);
  check();
  (void)large.pass(micro_batch);

  std::vector<Pass> smalls, larges;
  const Time begin = kSystemClock.now();
  while (smalls.size() < kRoundsMin || seconds_since(begin) < kMeasuringSeconds) {
    check();
    smalls.push_back(small.pass(micro_batch));
    larges.push_back(large.pass(micro_batch));
  }
  const Pass one = median_of(smalls), more = median_of(larges);
  const auto more_blocks = static_cast<double>(std::max<std::int64_t>(1, blocks - 1));
  const auto layers = static_cast<double>(task.model.layers());
  const auto of_block = [&](double in_one, double in_more) {
    // With one block in all, its part of the pass cannot be told; it is that of its FLOP.
    return blocks > 1 ? std::max(0.0, in_more - in_one) / more_blocks
                      : in_one * (1 - flop_of(config.with_layers(0), micro_batch, false) /
                                          flop_of(config.with_layers(1), micro_batch, false));
  };
  const double forward = of_block(one.forward, more.forward);
  const double backward = of_block(one.backward, more.backward);
  const double seconds = more.forward + more.backward +
                         (layers - static_cast<double>(blocks)) * (forward + backward) +
                         (task.recompute ? layers * forward : 0);
  const double flop = flop_of(config.with_layers(task.model.layers()), micro_batch, task.recompute);
  return {flop / seconds, shape_text(task, config, micro_batch, blocks)};
}

}  // namespace strata::tool
