#include "zero3/one_cycle.h"

#include <cmath>

namespace strata::zero3 {
namespace {

using formats::SchedulerConfig;

double first_steps(const SchedulerConfig& config) {
  return static_cast<double>(config.cycle_first_step_size);
}

double second_steps(const SchedulerConfig& config) {
  return static_cast<double>(config.cycle_second_step_size.value_or(config.cycle_first_step_size));
}

/// The rate's distance from its minimum, in [0, 1]: up in the first steps, down in the second.
double height(const SchedulerConfig& config, std::int64_t index) {
  const double first = first_steps(config);
  const double second = second_steps(config);
  const double total = first + second;
  const auto step = static_cast<double>(index + 1);
  const double cycle = std::floor(1 + step / total);
  const double x = 1.0 + step / total - cycle;
  const double top = first / total;
  const bool rises = x <= top;
  const std::int64_t stairs =
      rises ? config.cycle_first_stair_count
            : config.cycle_second_stair_count.value_or(config.cycle_first_stair_count);
  if (stairs == 0) return rises ? x / top : (x - 1) / (top - 1);
  // Counts from the whole number of steps: x may lie a rounding below a stair.
  const double done = std::fmod(step, total);
  const auto count = static_cast<double>(stairs);
  const double stair = done <= first ? done * count / first : (total - done) * count / second;
  return std::floor(stair) / count;
}

bool is_in_cycle(const SchedulerConfig& config, std::int64_t index) {
  return static_cast<double>(index) < first_steps(config) + second_steps(config);
}

}  // namespace

double one_cycle_rate(const SchedulerConfig& config, std::int64_t index) {
  const double low = config.cycle_min_lr;
  if (is_in_cycle(config, index)) {
    return low + (config.cycle_max_lr - low) * height(config, index);
  }
  if (config.decay_step_size == 0) return low;
  const double steps =
      static_cast<double>(index) - (first_steps(config) + second_steps(config)) + 1;
  const double interval = steps / static_cast<double>(config.decay_step_size);
  return low / (1 + config.decay_lr_rate * interval);
}

double one_cycle_momentum(const SchedulerConfig& config, std::int64_t index) {
  // DeepSpeed sets the lower bound before the first step, and begins at the upper one with it.
  if (index < 0) return config.cycle_min_mom;
  if (!is_in_cycle(config, index)) return config.cycle_max_mom;
  return config.cycle_max_mom -
         (config.cycle_max_mom - config.cycle_min_mom) * height(config, index);
}

}  // namespace strata::zero3
