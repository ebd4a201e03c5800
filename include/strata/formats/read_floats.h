#pragma once

#include <cstdint>
#include <span>

#include "strata/formats/safetensors.h"

namespace strata::formats {

/// Reads `out.size()` elements of a tensor of the file, of F32, F16 or BF16, from element `begin`
/// on, as fp32 without rounding. Memory used is bounded, whatever the length. Throws DataError for
/// another dtype; IoError; UsageError for a range beyond the tensor.
void read_f32(const SafetensorsFile& file, const TensorInfo& tensor, std::uint64_t begin,
              std::span<float> out);

}  // namespace strata::formats
