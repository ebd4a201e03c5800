#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "strata/models/gpt2.h"

namespace strata::models {

namespace {

// Elements that are drawn from a generator of their own, so that all cores draw at once and their
// number changes nothing.
constexpr std::int64_t kElementsOfAGenerator = 1 << 16;

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

/// Fills `value` on all cores. Generators of LibTorch's draw on one.
void fill_with_normal(const torch::Tensor& value, double deviation, std::uint64_t seed) {
  const torch::Tensor flat = value.view({-1});
  const std::int64_t count = flat.numel();
  const std::int64_t parts = (count + kElementsOfAGenerator - 1) / kElementsOfAGenerator;
  at::parallel_for(0, parts, 1, [&](std::int64_t begin, std::int64_t end) {
    const torch::NoGradGuard no_grad;
    for (std::int64_t part = begin; part < end; ++part) {
      const std::int64_t first = part * kElementsOfAGenerator;
      const std::uint64_t seed_of_part = mixed(seed + static_cast<std::uint64_t>(part));
      flat.narrow(0, first, std::min(kElementsOfAGenerator, count - first))
          .normal_(0.0, deviation, at::make_generator<at::CPUGeneratorImpl>(seed_of_part));
    }
  });
}

}  // namespace

ParameterInitializer random_initializer(const Gpt2Config& config, std::uint64_t seed) {
  const double range = config.initializer_range;
  const double residual_range = range / std::sqrt(2.0 * static_cast<double>(config.n_layer));
  return [=](const std::string& name, torch::Tensor& value) {
    torch::NoGradGuard no_grad;
    if (name.ends_with(".bias")) {
      value.zero_();
    } else if (name.ends_with("ln_1.weight") || name.ends_with("ln_2.weight") ||
               name.ends_with("ln_f.weight")) {
      value.fill_(1.0);
    } else {
      const bool into_residual = name.ends_with("c_proj.weight");
      fill_with_normal(value, into_residual ? residual_range : range, seed_of(seed, name));
    }
  };
}

}  // namespace strata::models
