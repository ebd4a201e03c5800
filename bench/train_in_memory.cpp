/// Trains like `strata finetune`, in memory and without Strata: the same flags, batches, schedule
/// and model, plain autograd and torch::optim::AdamW. Leaves metrics.jsonl in --output. fp32 only.

#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <optional>

#include "batch_sampler.h"
#include "dataset.h"
#include "finetune_options.h"
#include "metrics.h"
#include "run_config.h"
#include "strata/base/clock.h"
#include "strata/base/error.h"
#include "strata/models/gpt2.h"
#include "strata/zero3/lr_schedule.h"

namespace {

using namespace strata;
using namespace strata::tool;

torch::Tensor tensor_of(const std::vector<std::int64_t>& values, const Batch& batch) {
  return torch::tensor(values, torch::kInt64).view({batch.rows, batch.length});
}

torch::Tensor loss_of(models::Gpt2& model, const Batch& batch) {
  return model.loss(tensor_of(batch.tokens, batch), tensor_of(batch.targets, batch));
}

/// AdamW with two groups: what the config lets decay, and the rest.
torch::optim::AdamW make_optimizer(models::Gpt2& model, const formats::DsConfig& config) {
  std::vector<torch::Tensor> decaying, others;
  model.visit_parameters([&](const std::string& name, const torch::Tensor& parameter) {
    (config.decays(name) ? decaying : others).push_back(parameter);
  });
  const formats::OptimizerConfig& given = config.optimizer;
  const auto group = [&](std::vector<torch::Tensor> parameters, double decay) {
    auto options = std::make_unique<torch::optim::AdamWOptions>(given.lr);
    options->betas({given.beta1, given.beta2}).eps(given.eps).weight_decay(decay);
    return torch::optim::OptimizerParamGroup(std::move(parameters), std::move(options));
  };
  return torch::optim::AdamW(std::vector{group(decaying, given.weight_decay), group(others, 0.0)});
}

class Run {
 public:
  Run(const FinetuneOptions& options, formats::DsConfig config)
      : options_(options),
        config_(std::move(config)),
        model_(
            models::Gpt2Config::preset(*options.preset), Precision::kFp32,
            models::random_initializer(models::Gpt2Config::preset(*options.preset), options.seed)),
        optimizer_(make_optimizer(model_, config_)),
        seq_len_(sequence_length(options, model_.config().n_positions)),
        data_(options, model_.config().vocab_size, seq_len_, interruption_),
        metrics_(*options.output / "metrics.jsonl", log_) {}

  void train() {
    const std::int64_t steps = step_count(options_, config_, data_.train().count, seq_len_);
    config_.set_total_steps(steps);
    const zero3::LrSchedule schedule(config_.scheduler, config_.optimizer.lr);
    const BatchSampler batches =
        BatchSampler::random(data_.train(), rows(), seq_len_, options_.seed);
    evaluate(0);
    for (std::int64_t step = 1; step <= steps; ++step) {
      take_step(step, schedule.at(step), batches.batch(static_cast<std::uint64_t>(step - 1)));
      const bool evaluate_now = options_.eval_every > 0 && step % options_.eval_every == 0;
      if (evaluate_now || step == steps) evaluate(step);
    }
  }

 private:
  [[nodiscard]] std::int64_t rows() const { return config_.train_batch_size; }

  void take_step(std::int64_t step, double lr, const Batch& batch) {
    const Time start = kSystemClock.now();
    StepRecord record;
    record.step = step;
    record.lr = lr;
    optimizer_.zero_grad();
    const torch::Tensor loss = loss_of(model_, batch);
    loss.backward();
    record.loss = loss.item<double>();
    record.grad_norm =
        torch::nn::utils::clip_grad_norm_(model_.parameters(), config_.gradient_clipping);
    for (torch::optim::OptimizerParamGroup& group : optimizer_.param_groups()) {
      group.options().set_lr(lr);
    }
    optimizer_.step();
    record.interval = interval_of({}, kSystemClock.now() - start, batch.tokens.size());
    metrics_.write(record);
  }

  void evaluate(std::int64_t step) {
    if (!data_.validation()) return;
    const Time start = kSystemClock.now();
    const torch::NoGradGuard no_gradients;
    const BatchSampler batches =
        BatchSampler::even(*data_.validation(), rows(), seq_len_, options_.eval_batches);
    double sum = 0;
    model_.eval();
    for (std::int64_t i = 0; i < options_.eval_batches; ++i) {
      sum += loss_of(model_, batches.batch(static_cast<std::uint64_t>(i))).item<double>();
    }
    model_.train();
    const double loss = sum / static_cast<double>(options_.eval_batches);
    metrics_.write(EvaluationRecord{.step = step, .loss = loss, .seconds = seconds_since(start)});
    std::cout << "step " << step << ": validation loss " << loss << std::endl;
  }

  const FinetuneOptions& options_;
  formats::DsConfig config_;
  models::Gpt2 model_;
  torch::optim::AdamW optimizer_;
  std::int64_t seq_len_;
  Interruption interruption_;
  Logger log_;
  Dataset data_;
  MetricsFile metrics_;
};

void train(const FinetuneOptions& options) {
  if (!options.preset || !options.data || !options.config || !options.output) {
    throw UsageError("--preset, --data, --config and --output are all needed");
  }
  formats::DsConfig config = run_config(options);
  if (config.precision() != Precision::kFp32 || config.gradient_accumulation_steps != 1) {
    throw UsageError(config.name + ": only fp32 without accumulation is trained here");
  }
  std::filesystem::create_directories(*options.output);
  Run(options, std::move(config)).train();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains in memory, without Strata, what `strata finetune` trains."};
  FinetuneOptions options;
  add_finetune_command(app, options);
  app.require_subcommand(1);
  CLI11_PARSE(app, argc, argv);
  try {
    train(options);
  } catch (const std::exception& error) {
    std::cerr << "train_in_memory: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
