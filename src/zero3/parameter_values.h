#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/zero3/unit_layout.h"

namespace strata::zero3 {

/// Checks values that a parameter is to take, and gives them as contiguous fp32 masters on the CPU.
///
/// Throws UsageError that names the parameter: for a tensor that is undefined, of another shape, on
/// the meta device, or of a type that fp32 cannot hold exactly (double, integers, complex, bool);
/// DataError for a value that is Inf or NaN, or that the weight's format cannot hold.
[[nodiscard]] torch::Tensor checked_masters(const std::string& parameter,
                                            const std::vector<std::int64_t>& shape,
                                            const torch::Tensor& values, Precision precision);

/// The two parts of checked_masters, for values that are looked at block by block: its UsageErrors,
/// and the DataError about values, of which the first is the parameter's element `first`.
[[nodiscard]] torch::Tensor masters_of(const std::string& parameter,
                                       const std::vector<std::int64_t>& shape,
                                       const torch::Tensor& values);
void check_magnitudes(const std::string& parameter, std::span<const float> values,
                      std::uint64_t first, Precision precision);

/// Throws UsageError for data that a parameter was given with another type than its own:
/// torch::load of an fp32 archive into a 16-bit parameter gives it the bytes and not the type.
void check_bytes(const std::string& parameter, const torch::Tensor& values);

/// Throws UsageError for a type whose numbers fp32 cannot hold exactly.
void check_scalar_type(const std::string& parameter, torch::ScalarType type);

}  // namespace strata::zero3
