#include "json_in_text.h"

#include <algorithm>
#include <sstream>

#include "strata/base/error.h"

namespace strata::bench {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kLineEnds = "\n\r";  // fio goes back to the start of its status line
constexpr std::string_view kBlanks = " \t\n\r";

/// The bracket that begins an object, looked for from a place between lines; npos without one.
std::size_t find_object(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t first = text.find_first_not_of(kBlanks, at);
    if (first == std::string_view::npos) break;
    if (text[first] == '{') return first;
    at = std::min(text.find_first_of(kLineEnds, first), text.size());
  }
  return std::string_view::npos;
}

void add_lines(std::string_view text, std::vector<std::string>& lines) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(kLineEnds), text.size());
    const std::string_view line = text.substr(0, end);
    if (line.find_first_not_of(kBlanks) != std::string_view::npos) lines.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// Takes the object that `text` begins with off its front.
Json take_object(std::string_view& text, const std::string& name) {
  std::istringstream stream{std::string(text)};
  Json object;
  try {
    stream >> object;
  } catch (const Json::parse_error& error) {
    if (error.byte < text.find_last_not_of(kBlanks) + 1) {
      throw DataError(name + ": its JSON is damaged: " + error.what());
    }
    throw DataError(name +
                    ": ends in the middle of its JSON, as the output of a program that was stopped "
                    "does; measure again, and let it end by itself");
  }
  const auto end = stream.rdbuf()->pubseekoff(0, std::ios::cur, std::ios::in);
  text.remove_prefix(static_cast<std::size_t>(std::streamoff{end}));
  return object;
}

}  // namespace

JsonInText find_json(std::string_view text, const std::string& name) {
  JsonInText found;
  std::size_t begin = find_object(text);
  if (begin == std::string_view::npos) begin = text.find('{');
  if (begin == std::string_view::npos) {
    throw DataError(name +
                    (text.find_first_not_of(kBlanks) == std::string_view::npos
                         ? ": is empty"
                         : ": holds no JSON object") +
                    "; a result is written with --format=json, by fio with --output-format=json");
  }
  while (begin != std::string_view::npos) {
    add_lines(text.substr(0, begin), found.lines);
    text.remove_prefix(begin);
    found.objects.push_back(take_object(text, name));
    begin = find_object(text);
  }
  add_lines(text, found.lines);
  return found;
}

}  // namespace strata::bench
