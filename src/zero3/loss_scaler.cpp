#include "strata/zero3/loss_scaler.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

#include "strata/base/error.h"

namespace strata::zero3 {
namespace {

constexpr double kScaleFactor = 2.0;

void require_scaling(bool condition, const char* key, const char* rule) {
  if (!condition) throw ConfigError(std::string("fp16.") + key + ": must be " + rule);
}

}  // namespace

LossScaler::LossScaler(const formats::Fp16Config& config) {
  if (!config.enabled) return;
  require_scaling(std::isfinite(config.loss_scale) && config.loss_scale >= 0, "loss_scale",
                  "a finite number, 0 (dynamic) or above");
  if (!config.dynamic_loss_scale()) {
    now_.scale = config.loss_scale;
    return;
  }
  require_scaling(config.initial_scale_power >= 0 && config.initial_scale_power <= 126,
                  "initial_scale_power", "from 0 to 126: the scale has to be an fp32 number");
  require_scaling(config.loss_scale_window > 0, "loss_scale_window", "1 or more");
  require_scaling(config.hysteresis > 0, "hysteresis", "1 or more");
  require_scaling(std::isfinite(config.min_loss_scale) && config.min_loss_scale > 0,
                  "min_loss_scale", "above 0");
  dynamic_ = true;
  now_.scale = std::ldexp(1.0, static_cast<int>(config.initial_scale_power));
  min_scale_ = config.min_loss_scale;
  window_ = config.loss_scale_window;
  hysteresis_ = config.hysteresis;
  now_.hysteresis_left = config.hysteresis;
  consecutive_hysteresis_ = config.consecutive_hysteresis;
}

void LossScaler::resume(const Standing& standing) {
  if (dynamic_) now_ = standing;
}

void LossScaler::update(bool overflow) {
  if (!dynamic_) return;
  if (overflow) {
    shrink();
  } else {
    grow_when_stable();
  }
  ++now_.steps;
}

// Hysteresis forgives all but the last of its overflows; once used up, every overflow halves.
void LossScaler::shrink() {
  if (now_.hysteresis_left > 1) {
    --now_.hysteresis_left;
  } else if (now_.scale == min_scale_) {
    std::ostringstream message;
    message << "fp16: gradients overflow at the smallest loss scale, fp16.min_loss_scale = "
            << min_scale_
            << ": no scale helps, training has diverged; lower the learning rate, or use bf16";
    throw Error(message.str());
  } else {
    now_.scale = std::max(now_.scale / kScaleFactor, min_scale_);
  }
  now_.last_overflow_step = now_.steps;
}

// The step right after an overflow is not counted, nor is the first step of all.
void LossScaler::grow_when_stable() {
  if (consecutive_hysteresis_) now_.hysteresis_left = hysteresis_;
  const std::int64_t stable_steps = now_.steps - now_.last_overflow_step - 1;
  if (stable_steps > 0 && stable_steps % window_ == 0) {
    now_.hysteresis_left = hysteresis_;
    now_.scale *= kScaleFactor;
  }
}

}  // namespace strata::zero3
