#include "strata/zero3/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "strata/base/error.h"

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

bool decays(const SchedulerConfig& config) {
  return config.type == SchedulerType::kWarmupDecayLR ||
         config.type == SchedulerType::kWarmupCosineLR;
}

void validate(const SchedulerConfig& config) {
  require_rate(config.warmup_min_lr, "warmup_min_lr");
  if (config.warmup_max_lr) require_rate(*config.warmup_max_lr, "warmup_max_lr");
  require(config.warmup_num_steps >= 0, "warmup_num_steps", "must be 0 or more");
  require_rate(config.warmup_min_ratio, "warmup_min_ratio");
  require_rate(config.cos_min_ratio, "cos_min_ratio");
  require(!decays(config) || config.total_num_steps > 0, "total_num_steps",
          "must be the number of optimizer steps of the run, 1 or more; where it is \"auto\", set "
          "it with DsConfig::set_total_steps before the engine is made");
}

// DeepSpeed never warms up in fewer than two steps: log(1) is no divisor.
std::int64_t warmup_steps(const SchedulerConfig& config) {
  return std::max<std::int64_t>(2, config.warmup_num_steps);
}

// How far the warm-up has come, in [0, 1). `index` counts the scheduler's own steps from 0.
double warmup_progress(const SchedulerConfig& config, std::int64_t index) {
  const auto steps = static_cast<double>(warmup_steps(config));
  if (config.warmup_type == WarmupType::kLinear) return static_cast<double>(index) / steps;
  return (1.0 / std::log(steps)) * std::log(static_cast<double>(index) + 1.0);
}

// What is left of the linear decay, from 1 at the end of the warm-up to 0 at the end of the run.
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

}  // namespace

LrSchedule::LrSchedule(const SchedulerConfig& config, double base_lr)
    : config_(config), base_lr_(base_lr) {
  if (config.type != SchedulerType::kNone) validate(config);
}

double LrSchedule::at(std::int64_t step) const {
  // The scheduler moves after the optimizer has stepped: it stands at -1 during the first step.
  const std::int64_t index = step - 2;
  switch (config_.type) {
    case SchedulerType::kNone: break;
    case SchedulerType::kWarmupLR:
    case SchedulerType::kWarmupDecayLR:
      return warmup_rate(config_, config_.warmup_max_lr.value_or(base_lr_), index);
    case SchedulerType::kWarmupCosineLR: return base_lr_ * cosine_ratio(config_, index);
  }
  return base_lr_;
}

}  // namespace strata::zero3
