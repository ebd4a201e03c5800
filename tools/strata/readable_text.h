#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace strata::tool {

/// Byte tokens as text that a terminal shows unchanged: valid UTF-8 and line feeds stay, every
/// other byte becomes \xNN and a token that is no byte <N>.
[[nodiscard]] std::string readable_text(std::span<const std::int64_t> tokens);

/// Token ids, separated by spaces.
[[nodiscard]] std::string id_list(std::span<const std::int64_t> tokens);

}  // namespace strata::tool
