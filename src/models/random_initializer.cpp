#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

#include "strata/models/gpt2.h"
#include "strata/optim_cpu/normal_numbers.h"
#include "strata/zero3/ranged_initializer.h"

namespace strata::models {

namespace {

// Elements that a core draws at a time. Their number changes nothing.
constexpr std::uint64_t kBlockElements = 1 << 16;

std::uint64_t mixed(std::uint64_t hash) {
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdu;
  hash ^= hash >> 33;
  return hash;
}

/// A sequence of its own for every name (FNV-1a, then a final mix of the bits), so that a
/// parameter's values depend neither on the order of parameters nor on where they live.
std::uint64_t sequence_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  return mixed(hash);
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
      const auto deviation = static_cast<float>(into_residual ? residual_range : range);
      optim_cpu::normal_numbers({}, sequence_of(seed, name), begin, deviation, values);
    }
  };
  return RangedInitializer(kBlockElements, fill);
}

}  // namespace strata::models
