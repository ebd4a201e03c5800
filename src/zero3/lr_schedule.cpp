#include "strata/zero3/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "strata/base/error.h"
#include "zero3/one_cycle.h"

namespace strata::zero3 {
namespace {

using formats::SchedulerConfig;
using formats::SchedulerType;
using formats::WarmupType;

void require(bool condition, const char* key, const std::string& rule) {
  if (!condition) throw ConfigError(std::string("scheduler.params.") + key + ": " + rule);
}

void require_rate(double rate, const char* key) {
  require(std::isfinite(rate) && rate >= 0, key, "must be a finite number, 0 or above");
}

bool is_momentum(double beta) { return beta >= 0 && beta < 1; }

void validate(const SchedulerConfig& config) {
  require_rate(config.warmup_min_lr, "warmup_min_lr");
  if (config.warmup_max_lr) require_rate(*config.warmup_max_lr, "warmup_max_lr");
  require(config.warmup_num_steps >= 0, "warmup_num_steps", "must be 0 or more");
  require_rate(config.warmup_min_ratio, "warmup_min_ratio");
  require_rate(config.cos_min_ratio, "cos_min_ratio");
  require_rate(config.num_cycles, "num_cycles");
  require_rate(config.min_lr.value_or(0), "min_lr");
  require_rate(config.min_lr_rate.value_or(0), "min_lr_rate");
  require_rate(config.cycle_min_lr, "cycle_min_lr");
  require_rate(config.cycle_max_lr, "cycle_max_lr");
  require_rate(config.decay_lr_rate, "decay_lr_rate");
  require(config.cycle_first_step_size > 0, "cycle_first_step_size", "must be 1 or more");
  require(config.cycle_second_step_size.value_or(0) >= 0, "cycle_second_step_size",
          "must be 0 or more");
  require(config.cycle_first_stair_count >= 0, "cycle_first_stair_count", "must be 0 or more");
  require(config.cycle_second_stair_count.value_or(0) >= 0, "cycle_second_stair_count",
          "must be 0 or more");
  require(config.decay_step_size >= 0, "decay_step_size", "must be 0 or more");
  require(is_momentum(config.cycle_min_mom), "cycle_min_mom", "must be from 0 to below 1");
  require(is_momentum(config.cycle_max_mom), "cycle_max_mom", "must be from 0 to below 1");
  require_rate(config.lr_range_test_min_lr, "lr_range_test_min_lr");
  require_rate(config.lr_range_test_step_rate, "lr_range_test_step_rate");
  require(config.lr_range_test_step_size > 0, "lr_range_test_step_size", "must be 1 or more");
  require(config.last_batch_iteration >= -1, "last_batch_iteration", "must be -1 or more");
  require(!config.ends() || config.total_num_steps > 0, "total_num_steps",
          "must be the number of optimizer steps of the run, 1 or more; where it is \"auto\", set "
          "it with DsConfig::set_total_steps before the engine is made");
}

// DeepSpeed never warms up in fewer than two steps: log(1) is no divisor.
std::int64_t warmup_steps(const SchedulerConfig& config) {
  return std::max<std::int64_t>(2, config.warmup_num_steps);
}

// Progress of the warm-up, in [0, 1). `index` counts the scheduler's own steps from 0.
double warmup_progress(const SchedulerConfig& config, std::int64_t index) {
  const auto steps = static_cast<double>(warmup_steps(config));
  if (config.warmup_type == WarmupType::kLinear) return static_cast<double>(index) / steps;
  return (1.0 / std::log(steps)) * std::log(static_cast<double>(index) + 1.0);
}

// Remainder of the linear decay, from 1 at the end of the warm-up to 0 at the end of the run.
double linear_decay(const SchedulerConfig& config, std::int64_t index) {
  const auto left = static_cast<double>(config.total_num_steps - index);
  const auto whole = static_cast<double>(config.total_num_steps - warmup_steps(config));
  return std::max(0.0, left / std::max(1.0, whole));
}

double warmup_rate(const SchedulerConfig& config, double max_lr, std::int64_t index) {
  if (index < 0) return config.warmup_min_lr;
  double gamma = 1.0;
  if (index < warmup_steps(config)) {
    gamma = warmup_progress(config, index);
  } else if (config.type == SchedulerType::kWarmupDecayLR) {
    gamma = linear_decay(config, index);
  }
  return config.warmup_min_lr + (max_lr - config.warmup_min_lr) * gamma;
}

double cosine_ratio(const SchedulerConfig& config, std::int64_t index) {
  if (index < 0) return 0.0;
  if (index < warmup_steps(config)) {
    return config.warmup_min_ratio +
           warmup_progress(config, index) * (1.0 - config.warmup_min_ratio);
  }
  const auto done = static_cast<double>(index - warmup_steps(config) + 1);
  const auto whole =
      static_cast<double>(std::max<std::int64_t>(1, config.total_num_steps - warmup_steps(config)));
  const double progress = std::min(1.0, done / whole);
  const double cosine = (1.0 + std::cos(std::numbers::pi * progress)) / 2.0;
  return std::max(0.0, config.cos_min_ratio + (1.0 - config.cos_min_ratio) * cosine);
}

double range_test_rate(const SchedulerConfig& config, std::int64_t index) {
  double intervals =
      static_cast<double>(index + 1) / static_cast<double>(config.lr_range_test_step_size);
  if (config.lr_range_test_staircase) intervals = std::floor(intervals);
  return config.lr_range_test_min_lr * (1 + config.lr_range_test_step_rate * intervals);
}

/// The part of the optimizer's rate after `taken` optimizer steps, as transformers'
/// get_scheduler(name) has it.
double trainers_factor(const SchedulerConfig& config, double base_lr, std::int64_t taken) {
  if (config.type == SchedulerType::kConstant) return 1.0;
  const std::int64_t warmup = config.warmup_num_steps;
  const auto done = static_cast<double>(taken);
  if (taken < warmup) return done / static_cast<double>(warmup);
  if (config.type == SchedulerType::kConstantWithWarmup) return 1.0;
  const auto whole =
      static_cast<double>(std::max<std::int64_t>(1, config.total_num_steps - warmup));
  if (config.type == SchedulerType::kLinear) {
    return std::max(0.0, static_cast<double>(config.total_num_steps - taken) / whole);
  }
  const double progress = static_cast<double>(taken - warmup) / whole;
  const double cosine = (1.0 + std::cos(std::numbers::pi * config.num_cycles * 2.0 * progress)) / 2;
  const double least = config.min_lr ? *config.min_lr / base_lr : config.min_lr_rate.value_or(0.0);
  return std::max(0.0, least + (1.0 - least) * cosine);
}

/// The scheduler's own count in an optimizer step. It moves after the optimizer has stepped, so it
/// stands at its beginning during the first step.
std::int64_t index_of(const SchedulerConfig& config, std::int64_t step) {
  return config.last_batch_iteration + step - 1;
}

/// A schedule that begins later than at its beginning sets nothing before the first step.
bool is_untouched(const SchedulerConfig& config, std::int64_t step) {
  return config.last_batch_iteration != SchedulerConfig{}.last_batch_iteration && step <= 1;
}

}  // namespace

LrSchedule::LrSchedule(const SchedulerConfig& config, double base_lr)
    : config_(config), base_lr_(base_lr) {
  if (config.type != SchedulerType::kNone) validate(config);
}

double LrSchedule::at(std::int64_t step) const {
  if (is_untouched(config_, step)) return base_lr_;
  const std::int64_t index = index_of(config_, step);
  switch (config_.type) {
    case SchedulerType::kNone: break;
    case SchedulerType::kWarmupLR:
    case SchedulerType::kWarmupDecayLR:
      return warmup_rate(config_, config_.warmup_max_lr.value_or(base_lr_), index);
    case SchedulerType::kWarmupCosineLR: return base_lr_ * cosine_ratio(config_, index);
    case SchedulerType::kOneCycle: return one_cycle_rate(config_, index);
    case SchedulerType::kLRRangeTest: return range_test_rate(config_, index);
    case SchedulerType::kLinear:
    case SchedulerType::kCosine:
    case SchedulerType::kConstant:
    case SchedulerType::kConstantWithWarmup:
    case SchedulerType::kCosineWithMinLr:
      return base_lr_ * trainers_factor(config_, base_lr_, step - 1);
  }
  return base_lr_;
}

formats::OptimizerConfig LrSchedule::with_momentum(const formats::OptimizerConfig& optimizer,
                                                   std::int64_t step) const {
  formats::OptimizerConfig changed = optimizer;
  const bool has_betas = optimizer.is_adam() || optimizer.type == formats::OptimizerType::kLion;
  const bool cycles = config_.type == SchedulerType::kOneCycle && config_.cycle_momentum;
  if (!cycles || !has_betas || is_untouched(config_, step)) return changed;
  changed.beta1 = one_cycle_momentum(config_, index_of(config_, step));
  changed.beta2 = kOneCycleBeta2;
  return changed;
}

}  // namespace strata::zero3
