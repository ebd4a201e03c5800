#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/base/number_format.h"

/// \file
/// How the parameters of a unit lie in its flat vectors. No LibTorch.

namespace strata::zero3 {

/// One parameter of a unit.
struct ParameterLayout {
  std::string name;                 ///< within the unit: "attn.c_attn.weight"
  std::vector<std::int64_t> shape;  ///< row-major
  bool trainable = true;
  std::uint64_t count = 0;   ///< elements
  std::uint64_t offset = 0;  ///< first element in the flat vector of its kind
};

/// A unit: the parameters that are gathered and released together. Trainable and frozen parameters
/// are two flat vectors; within each, parameters follow in registration order, every one aligned to
/// `kAlignmentElements`: whole blocks of int8 moments, and the alignment that LibTorch's own
/// allocator gives.
struct UnitLayout {
  static constexpr std::uint64_t kAlignmentElements = kMomentBlockElements;

  std::string name;  ///< prefix of the parameters' full names: "h.3"; may be empty
  std::vector<ParameterLayout> parameters;
  std::uint64_t trainable_count = 0;  ///< elements of the trainable vector, padding included
  std::uint64_t frozen_count = 0;     ///< likewise

  /// Appends a parameter behind those of its kind. Throws UsageError for a negative dimension, a
  /// name used before, or more than 2^62 elements.
  void add(std::string parameter_name, std::vector<std::int64_t> shape, bool trainable);

  /// "h.3.attn.c_attn.weight".
  [[nodiscard]] std::string full_name(const ParameterLayout& parameter) const;
};

}  // namespace strata::zero3
