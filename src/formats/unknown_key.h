#pragma once

#include <string>
#include <string_view>

namespace strata::formats {

/// Whether a key begins as people write comments where there are none: _, # or //.
[[nodiscard]] bool is_comment_key(std::string_view name);

/// What is wrong with the key `name` in the section `prefix` ("" or "section."), which is none of
/// the known ones, and what to write instead. Empty: nothing of Strata's or DeepSpeed's is meant,
/// and DeepSpeed does not look at such a key there either.
[[nodiscard]] std::string fault_of_unknown_key(std::string_view name, std::string_view prefix);

}  // namespace strata::formats
