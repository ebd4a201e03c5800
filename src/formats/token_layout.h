#pragma once

#include <cstdint>
#include <optional>

#include "formats/regular_file.h"
#include "strata/formats/token_data.h"

namespace strata::formats {

/// The layout of the tokens in a file.
struct TokenLayout {
  TokenEncoding encoding;
  std::uint64_t first_byte;  ///< place of the first token
};

/// Bytes of a token.
[[nodiscard]] std::uint64_t bytes_of(TokenEncoding encoding);

/// Finds out how the tokens of `file` lie: by its content, and by its name only where the content
/// does not say (see TokenData). `asked` overrules the name, but not a header.
/// Throws DataError for content that is none of these, saying what it is and what to do.
[[nodiscard]] TokenLayout layout_of(const RegularFile& file, std::int64_t vocab_size,
                                    std::optional<TokenEncoding> asked);

}  // namespace strata::formats
