#include "models/token_choice.h"

#include <algorithm>
#include <limits>
#include <span>
#include <tuple>

#include "strata/base/error.h"

namespace strata::models {

namespace {

using torch::Tensor;

/// SplitMix64's finalizer: neighbouring inputs give unrelated outputs.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

/// A number of [0, 1) that depends on its arguments alone.
double draw(std::uint64_t seed, std::uint64_t prompt, std::uint64_t token) {
  const std::uint64_t bits = mix(mix(mix(seed) ^ prompt) ^ token);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

/// The place at which the sum of `weights` so far comes beyond `share` of `total`.
std::int64_t place_of(std::span<const double> weights, double share, double total) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i];
    if (sum > share * total) return static_cast<std::int64_t>(i);
  }
  return static_cast<std::int64_t>(weights.size()) - 1;
}

/// How many of the probabilities, largest first, have at least `top_p` together.
std::size_t kept_by(double top_p, std::span<const double> probabilities) {
  double sum = 0;
  std::size_t kept = 0;
  while (kept < probabilities.size() && sum < top_p) sum += probabilities[kept++];
  return std::max<std::size_t>(kept, 1);
}

}  // namespace

std::int64_t choose_token(const Tensor& logits, const SamplingOptions& options,
                          std::uint64_t prompt, std::uint64_t token) {
  const Tensor wide = logits.to(torch::kCPU, torch::kFloat64);
  if (wide.isnan().any().item<bool>()) {
    throw DataError(
        "the model's logits are not numbers (NaN): its weights are damaged, or its "
        "numbers leave the format that it computes in");
  }
  if (options.temperature == 0.0) return wide.argmax().item<std::int64_t>();
  const std::int64_t count =
      options.top_k > 0 ? std::min(options.top_k, wide.size(0)) : wide.size(0);
  const bool in_order = count < wide.size(0) || options.top_p < 1.0;
  Tensor kept = wide / options.temperature, tokens;
  if (in_order) std::tie(kept, tokens) = kept.topk(count);
  const Tensor probabilities = torch::softmax(kept, 0).contiguous();
  std::span<const double> weights(probabilities.const_data_ptr<double>(),
                                  static_cast<std::size_t>(probabilities.numel()));
  if (options.top_p < 1.0) weights = weights.first(kept_by(options.top_p, weights));
  double total = 0;
  for (const double weight : weights) total += weight;
  const std::int64_t place = place_of(weights, draw(options.seed, prompt, token), total);
  return in_order ? tokens[place].item<std::int64_t>() : place;
}

}  // namespace strata::models
