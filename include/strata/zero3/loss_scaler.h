#pragma once

#include <cstdint>

#include "strata/formats/ds_config.h"

namespace strata::zero3 {

/// The scale that keeps fp16 gradients from vanishing: static, or dynamic as DeepSpeed's
/// DynamicLossScaler (deepspeed/runtime/fp16/loss_scaler.py) moves it. A scale is always a power of
/// two when it starts as one, so that unscaling is exact.
class LossScaler {
 public:
  /// Scale 1 for ever: fp32 and bf16.
  LossScaler() = default;
  /// The scale that `config` says; 1 for ever when it is not enabled. Throws ConfigError for values
  /// out of range.
  explicit LossScaler(const formats::Fp16Config& config);

  [[nodiscard]] double scale() const noexcept { return now_.scale; }

  /// Its state beside the config, from which a run goes on.
  struct Standing {
    double scale = 1.0;
    std::int64_t hysteresis_left = 1;      ///< overflows until the scale shrinks
    std::int64_t steps = 0;                ///< outcomes that it was told
    std::int64_t last_overflow_step = -1;  ///< number of the last overflow among them; -1: none
    friend bool operator==(const Standing&, const Standing&) = default;
  };
  [[nodiscard]] const Standing& standing() const noexcept { return now_; }
  /// Goes on from `standing`, whose scale is finite and above 0. A static scale stays the config's.
  void resume(const Standing& standing);
  friend bool operator==(const LossScaler&, const LossScaler&) = default;

  /// Tells the outcome of a step. A static scale never changes. Throws Error when a dynamic scale
  /// would have to shrink below its minimum: no scale helps, the loss itself is hardly finite.
  void update(bool overflow);

 private:
  void shrink();
  void grow_when_stable();

  bool dynamic_ = false;
  double min_scale_ = 1.0;
  std::int64_t window_ = 1000;
  std::int64_t hysteresis_ = 1;
  bool consecutive_hysteresis_ = false;
  Standing now_;
};

}  // namespace strata::zero3
