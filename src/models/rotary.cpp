#include "models/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace strata::models {

namespace {

using torch::Tensor;
using RopeType = RopeConfig::Type;

Tensor over(double numerator, const Tensor& x) { return x.reciprocal() * numerator; }

/// Wavelengths in tokens, over 2 pi: theta^(2 i / width).
Tensor periods(const RopeConfig& config, std::int64_t width) {
  const Tensor exponents =
      torch::arange(0, width, 2, torch::kInt64).to(torch::kFloat32) / static_cast<double>(width);
  return torch::pow(config.theta, exponents);
}

/// Grattafiori et al. 2024, "The Llama 3 Herd of Models", and Meta's code for 3.1.
Tensor llama3_frequencies(const RopeConfig& config, const Tensor& frequencies) {
  const auto context = static_cast<double>(config.original_context);
  const double longest = context / config.low_freq_factor;
  const double shortest = context / config.high_freq_factor;
  const Tensor waves = over(2.0 * std::numbers::pi, frequencies);
  const Tensor divided = torch::where(waves > longest, frequencies / config.factor, frequencies);
  const Tensor share = (over(context, waves) - config.low_freq_factor) /
                       (config.high_freq_factor - config.low_freq_factor);
  const Tensor between = (1 - share) * divided / config.factor + share * divided;
  const Tensor is_between = (waves >= shortest).logical_and(waves <= longest);
  return torch::where(is_between, between, divided);
}

/// The element of a head that turns so many times within the original context.
double element_of(double rotations, const RopeConfig& config, double width) {
  const auto context = static_cast<double>(config.original_context);
  return width * std::log(context / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(config.theta));
}

/// Peng et al. 2023, "YaRN: Efficient Context Window Extension of Large Language Models".
Tensor yarn_frequencies(const RopeConfig& config, std::int64_t width) {
  const auto elements = static_cast<double>(width);
  double low = element_of(config.beta_fast, config, elements);
  double high = element_of(config.beta_slow, config, elements);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, elements - 1.0);
  if (low == high) high += 0.001;
  const Tensor ramp =
      ((torch::arange(width / 2, torch::kFloat32) - low) / (high - low)).clamp(0.0, 1.0);
  const Tensor kept = 1 - ramp;
  const Tensor waves = periods(config, width);
  return over(1.0, config.factor * waves) * (1 - kept) + over(1.0, waves) * kept;
}

double yarn_scaling(const RopeConfig& config) {
  const auto scale = [&](double share) {
    return config.factor <= 1.0 ? 1.0 : 0.1 * share * std::log(config.factor) + 1.0;
  };
  if (config.attention_factor) return *config.attention_factor;
  const double of_all = config.mscale_all_dim.value_or(0.0), of_some = config.mscale.value_or(0.0);
  return of_some != 0.0 && of_all != 0.0 ? scale(of_some) / scale(of_all) : scale(1.0);
}

Tensor frequencies_of(const RopeConfig& config, std::int64_t width) {
  switch (config.type) {
    case RopeType::kDefault:
    case RopeType::kDynamic: return over(1.0, periods(config, width));
    case RopeType::kLinear: return over(1.0, periods(config, width)) / config.factor;
    case RopeType::kLlama3: return llama3_frequencies(config, over(1.0, periods(config, width)));
    case RopeType::kYarn: return yarn_frequencies(config, width);
  }
  return {};
}

}  // namespace

Rotary::Rotary(const RopeConfig& config, std::int64_t width) {
  const torch::NoGradGuard no_grad;
  frequencies_ = frequencies_of(config, width);
  if (config.type == RopeType::kYarn) scaling_ = yarn_scaling(config);
}

std::pair<Tensor, Tensor> Rotary::of(std::int64_t tokens, const Tensor& places,
                                     const torch::TensorOptions& options) const {
  const torch::NoGradGuard no_grad;
  const Tensor positions =
      places.defined()
          ? places.to(options.device(), torch::kFloat32).unsqueeze(1).unsqueeze(-1)
          : torch::arange(tokens, torch::dtype(torch::kFloat32).device(options.device()))
                .unsqueeze(1);
  const Tensor half = positions * frequencies_.to(options.device());
  const Tensor angles = torch::cat({half, half}, -1);
  const torch::ScalarType format = c10::typeMetaToScalarType(options.dtype());
  return {(angles.cos() * scaling_).to(format), (angles.sin() * scaling_).to(format)};
}

namespace {

/// x * cosines + turned * sines for as many of the elements of x as there are cosines, where `turn`
/// puts the other one of each pair in an element's place, with its sign.
template <class Turn>
Tensor rotated_by(const Tensor& x, const Tensor& cosines, const Tensor& sines, Turn turn) {
  const std::int64_t width = cosines.size(-1), rest = x.size(-1) - width;
  const Tensor part = rest == 0 ? x : x.narrow(-1, 0, width);
  const Tensor whole = (part * cosines + turn(part) * sines).to(x.scalar_type());
  return rest == 0 ? whole : torch::cat({whole, x.narrow(-1, width, rest)}, /*dim=*/-1);
}

}  // namespace

Tensor rotated(const Tensor& x, const Tensor& cosines, const Tensor& sines) {
  return rotated_by(x, cosines, sines, [](const Tensor& part) {
    const std::int64_t half = part.size(-1) / 2;
    return torch::cat({-part.narrow(-1, half, half), part.narrow(-1, 0, half)}, /*dim=*/-1);
  });
}

Tensor rotated_in_pairs(const Tensor& x, const Tensor& cosines, const Tensor& sines) {
  // Both halves of the angles are the same ones.
  const auto of_pairs = [](const Tensor& angles) {
    return angles.narrow(-1, 0, angles.size(-1) / 2).repeat_interleave(2, -1);
  };
  return rotated_by(x, of_pairs(cosines), of_pairs(sines), [](const Tensor& part) {
    const Tensor pairs = part.unflatten(-1, {-1, 2});
    return torch::stack({-pairs.select(-1, 1), pairs.select(-1, 0)}, -1).flatten(-2);
  });
}

}  // namespace strata::models
