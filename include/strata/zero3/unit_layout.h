#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/base/number_format.h"

/// \file
/// How the parameters of a unit lie in its flat vectors. No LibTorch.

namespace strata::zero3 {

/// The formats of the parameters that a run of `format` keeps in fp32.
[[nodiscard]] constexpr StateFormat kept_in_fp32(StateFormat format) {
  format.precision = Precision::kFp32;
  format.master = MasterFormat::kFp32;
  return format;
}

/// One parameter of a unit.
struct ParameterLayout {
  std::string name;                 ///< within the unit: "attn.c_attn.weight"
  std::vector<std::int64_t> shape;  ///< row-major
  bool trainable = true;
  std::uint64_t count = 0;   ///< elements
  std::uint64_t offset = 0;  ///< first element in the flat vector of its kind
  bool fp32 = false;         ///< kept in fp32, whatever the run computes in
};

/// A unit: the parameters that are gathered and released together. They lie in up to four flat
/// vectors: trainable or frozen, in the run's format or kept in fp32. Within each vector they
/// follow in registration order, every one aligned to `kAlignmentElements`: whole blocks of int8
/// moments, and the alignment that LibTorch's own allocator gives.
struct UnitLayout {
  static constexpr std::uint64_t kAlignmentElements = kMomentBlockElements;

  std::string name;  ///< prefix of the parameters' full names: "h.3"; may be empty
  std::vector<ParameterLayout> parameters;
  /// Elements of the trainable vector in the run's format, padding included.
  std::uint64_t trainable_count = 0;
  std::uint64_t frozen_count = 0;          ///< elements of the frozen vector
  std::uint64_t fp32_trainable_count = 0;  ///< elements of the trainable vector in fp32
  std::uint64_t fp32_frozen_count = 0;     ///< elements of the frozen vector in fp32

  /// Appends a parameter behind those of its kind. `keep_fp32` is for runs that compute in another
  /// format. Throws UsageError for a negative dimension, a name used before, or more than 2^62
  /// elements.
  void add(std::string parameter_name, std::vector<std::int64_t> shape, bool trainable,
           bool keep_fp32 = false);

  /// The full name of a parameter: "h.3.attn.c_attn.weight".
  [[nodiscard]] std::string full_name(const ParameterLayout& parameter) const;
  /// The full name of a tensor named `tensor` within the unit.
  [[nodiscard]] std::string full_name(const std::string& tensor) const;
};

}  // namespace strata::zero3
