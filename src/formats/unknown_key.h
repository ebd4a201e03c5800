#pragma once

#include <string>
#include <string_view>

namespace strata::formats {

/// Whether a key is a comment, as people write them in JSON: it begins with _, # or //.
[[nodiscard]] bool is_comment_key(std::string_view name);

/// The error of the unknown key `name` in the section `prefix` ("" or "section."), and what to
/// write instead. Empty: no key of Strata's or DeepSpeed's is meant, and DeepSpeed does not look at
/// such a key there either.
[[nodiscard]] std::string fault_of_unknown_key(std::string_view name, std::string_view prefix);

}  // namespace strata::formats
