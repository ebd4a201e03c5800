#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/formats/safetensors.h"

namespace strata::formats {

inline constexpr std::uint64_t kHeaderBytesMax = 100'000'000;
inline constexpr std::uint64_t kLengthBytes = 8;  ///< bytes of the number before the header
inline constexpr std::string_view kMetadataKey = "__metadata__";

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< ordered by place; `offset` counts in the file
  SafetensorsMetadata metadata;
};

/// Reads and checks the header `text` of a file of `file_bytes` bytes; `name` begins every message.
/// Throws DataError unless header and file agree in everything.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::string_view text, std::string name,
                                                         std::uint64_t file_bytes);

/// The header of a file of these tensors, padded so that the data begins at a multiple of 8.
/// `offset` of the tensors counts from the begin of the data.
[[nodiscard]] std::string format_safetensors_header(const std::vector<TensorInfo>& tensors,
                                                    const SafetensorsMetadata& metadata);

/// Bytes of a tensor; nullopt when the product does not fit into 63 bits or is not whole bytes.
[[nodiscard]] std::optional<std::uint64_t> tensor_bytes(DType dtype,
                                                        const std::vector<std::int64_t>& shape);

}  // namespace strata::formats
