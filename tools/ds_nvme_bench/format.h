#pragma once

#include <string_view>

namespace strata::bench {

/// How results are written.
enum class Format {
  kTable,      ///< for a person
  kJson,       ///< fio's fields
  kJsonLines,  ///< the same, one line for each point
  kCsv,        ///< a line of names, then a line for each point
  kMarkdown,   ///< a table of the same
};

/// "table", "json", "jsonl", "csv", "md". Throws ConfigError that lists them.
[[nodiscard]] Format parse_format(std::string_view text);

}  // namespace strata::bench
