#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <string_view>

#include "strata/models/gpt2.h"

namespace strata::models {

namespace {

/// A generator seed of its own for every name (FNV-1a, then a final mix of the bits), so that a
/// parameter's values depend neither on the order of parameters nor on where they live.
std::uint64_t seed_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdu;
  hash ^= hash >> 33;
  return hash;
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
      value.normal_(0.0, into_residual ? residual_range : range,
                    at::make_generator<at::CPUGeneratorImpl>(seed_of(seed, name)));
    }
  };
}

}  // namespace strata::models
