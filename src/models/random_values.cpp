#include "models/random_values.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "strata/optim_cpu/normal_numbers.h"
#include "strata/zero3/ranged_initializer.h"

namespace strata::models {

namespace {

// Elements that a core draws at a time. Their number changes nothing.
constexpr std::uint64_t kRandomElements = 1 << 16;

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

/// Element `index` of a sequence that is uniform within the bound (Steele et al. 2014, "Fast
/// Splittable Pseudorandom Number Generators", with the mix above), in steps of 2^-23 of it.
float uniform(std::uint64_t sequence, std::uint64_t index, double bound) {
  const std::uint64_t bits = mixed(mixed(sequence + index * 0x9e3779b97f4a7c15u) + sequence);
  return static_cast<float>(bound * (static_cast<double>(bits >> 40) * 0x1p-23 - 1.0));
}

}  // namespace

ParameterInitializer random_values(
    std::uint64_t seed, std::function<InitialValues(const std::string& name)> values_of) {
  const auto fill = [seed, values_of = std::move(values_of)](
                        const std::string& name, std::uint64_t begin, std::span<float> values) {
    const InitialValues of = values_of(name);
    switch (of.kind) {
      case InitialValues::Kind::kZeros: std::ranges::fill(values, 0.0f); return;
      case InitialValues::Kind::kOnes: std::ranges::fill(values, 1.0f); return;
      case InitialValues::Kind::kNormal:
        optim_cpu::normal_numbers({}, sequence_of(seed, name), begin,
                                  static_cast<float>(of.deviation), values);
        return;
      case InitialValues::Kind::kUniform: {
        const std::uint64_t sequence = sequence_of(seed, name);
        for (float& value : values) value = uniform(sequence, begin++, of.deviation);
        return;
      }
    }
  };
  return RangedInitializer(kRandomElements, fill);
}

}  // namespace strata::models
