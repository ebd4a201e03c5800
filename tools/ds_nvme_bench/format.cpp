#include "format.h"

#include <string>

#include "strata/base/error.h"

namespace strata::bench {

Format parse_format(std::string_view text) {
  if (text == "table") return Format::kTable;
  if (text == "json") return Format::kJson;
  if (text == "jsonl") return Format::kJsonLines;
  if (text == "csv") return Format::kCsv;
  if (text == "md") return Format::kMarkdown;
  throw ConfigError("\"" + std::string(text) +
                    "\" is not a format; use one of table, json, jsonl, csv, md");
}

}  // namespace strata::bench
