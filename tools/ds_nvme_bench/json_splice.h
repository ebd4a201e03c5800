#pragma once

#include <string>
#include <string_view>

namespace strata::nvme_bench {

/// The object `object`, JSON or Hjson, with its member `key` set to `value` (JSON text), replaced
/// in place or added at the end. All other bytes stay: a file keeps the layout that its author gave
/// it. An added member begins a line of its own, indented like the first one, where the object has
/// lines. `object` must have been read by formats::JsonValue; key and value need no escapes. Throws
/// ConfigError when it has no braces.
[[nodiscard]] std::string with_member(std::string_view object, std::string_view key,
                                      std::string_view value);

/// The text of the member `key`; "" when there is none.
[[nodiscard]] std::string_view member_of(std::string_view object, std::string_view key);

/// The indentation of lines that begin a member of `object`: "    ".
[[nodiscard]] std::string indentation_of(std::string_view object);

}  // namespace strata::nvme_bench
