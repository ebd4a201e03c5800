#pragma once

#include <string>
#include <string_view>

namespace strata::formats {

/// `text` from an untrusted file, made fit for a message: in double quotes, on one line, in
/// printable ASCII (\xNN for everything else), cut after 100 characters.
[[nodiscard]] std::string quote(std::string_view text);

}  // namespace strata::formats
