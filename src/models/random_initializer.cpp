#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

#include "strata/models/gpt2.h"
#include "strata/zero3/ranged_initializer.h"

namespace strata::models {

namespace {

// Elements that are drawn from a generator of their own, so that all cores draw at once and their
// number changes nothing.
constexpr std::uint64_t kElementsOfAGenerator = 1 << 16;

std::uint64_t mixed(std::uint64_t hash) {
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdu;
  hash ^= hash >> 33;
  return hash;
}

/// A generator seed of its own for every name (FNV-1a, then a final mix of the bits), so that a
/// parameter's values depend neither on the order of parameters nor on where they live.
std::uint64_t seed_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  return mixed(hash);
}

/// Fills a part of a parameter that has a generator of its own.
void fill_with_normal(std::span<float> values, double deviation, std::uint64_t seed) {
  const torch::NoGradGuard no_grad;
  torch::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, torch::kFloat32)
      .normal_(0.0, deviation, at::make_generator<at::CPUGeneratorImpl>(seed));
}

}  // namespace

ParameterInitializer random_initializer(const Gpt2Config& config, std::uint64_t seed) {
  const double range = config.initializer_range;
  const double residual_range = range / std::sqrt(2.0 * static_cast<double>(config.n_layer));
  const auto fill = [=](const std::string& name, std::uint64_t begin, std::span<float> values) {
    if (name.ends_with(".bias")) {
      std::ranges::fill(values, 0.0f);
    } else if (name.ends_with("ln_1.weight") || name.ends_with("ln_2.weight") ||
               name.ends_with("ln_f.weight")) {
      std::ranges::fill(values, 1.0f);
    } else {
      const bool into_residual = name.ends_with("c_proj.weight");
      fill_with_normal(values, into_residual ? residual_range : range,
                       mixed(seed_of(seed, name) + begin / kElementsOfAGenerator));
    }
  };
  return RangedInitializer(kElementsOfAGenerator, fill);
}

}  // namespace strata::models
