#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace strata::formats {

/// Bytes of the character that `text`, which is not empty, begins with; 0 when it is not UTF-8.
[[nodiscard]] std::size_t utf8_length(std::string_view text);

/// `code_point`, which is no surrogate, in UTF-8.
[[nodiscard]] std::string utf8_of(std::uint32_t code_point);

}  // namespace strata::formats
