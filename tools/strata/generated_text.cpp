#include "generated_text.h"

#include <nlohmann/json.hpp>
#include <vector>

namespace strata::tool {

std::string json_line(const GeneratedText& made, bool has_text) {
  nlohmann::ordered_json line;
  if (has_text) {
    line["prompt"] = made.prompt.text;
    line["text"] = made.text;
  }
  line["prompt_tokens"] = made.prompt.tokens;
  line["tokens"] = std::vector<std::int64_t>(made.tokens.begin(), made.tokens.end());
  line["finish_reason"] = made.reason;
  using Handler = nlohmann::ordered_json::error_handler_t;
  return line.dump(-1, ' ', false, Handler::replace) + "\n";
}

std::string_view new_part(std::string_view text, std::size_t shown) {
  constexpr std::string_view kUnfinished = "\xEF\xBF\xBD";
  while (text.ends_with(kUnfinished)) text.remove_suffix(kUnfinished.size());
  return shown < text.size() ? text.substr(shown) : std::string_view();
}

}  // namespace strata::tool
