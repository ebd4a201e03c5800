#include "prompts.h"

#include <cerrno>
#include <charconv>
#include <fstream>
#include <string_view>
#include <system_error>

#include "plural.h"
#include "strata/base/error.h"

namespace strata::tool {
namespace {

constexpr std::string_view kBetweenIds = " \t,";

/// Calls take(line, where) for every line of a file.
template <class Take>
std::vector<Prompt> read_lines(const std::filesystem::path& path, Take take) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw system_error("open", path.string(), errno, "name a file that can be read");
  }
  std::vector<Prompt> prompts;
  std::string line;
  while (std::getline(file, line)) {
    if (line.ends_with('\r')) line.pop_back();
    const std::string where = path.string() + ":" + std::to_string(prompts.size() + 1);
    if (line.find_first_not_of(" \t") == std::string::npos) {
      throw DataError(where + ": the line is empty; a prompt has at least one token");
    }
    prompts.push_back(take(line, where));
  }
  if (file.bad()) throw system_error("read", path.string(), errno);
  if (prompts.empty()) throw DataError(path.string() + ": is empty; give a prompt a line");
  return prompts;
}

std::vector<std::int64_t> ids_of(std::string_view line, const std::string& where) {
  std::vector<std::int64_t> ids;
  for (std::size_t begin = line.find_first_not_of(kBetweenIds); begin != std::string_view::npos;
       begin = line.find_first_not_of(kBetweenIds, begin)) {
    const std::size_t end = std::min(line.find_first_of(kBetweenIds, begin), line.size());
    const std::string_view word = line.substr(begin, end - begin);
    std::int64_t id = 0;
    const auto [after, code] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (code != std::errc() || after != word.data() + word.size() || id < 0) {
      throw DataError(where + ": \"" + std::string(word.substr(0, 40)) +
                      "\" is no token id; give whole numbers, separated by spaces");
    }
    ids.push_back(id);
    begin = end;
  }
  return ids;
}

}  // namespace

std::vector<Prompt> read_text_prompts(const std::filesystem::path& path) {
  return read_lines(path, [](const std::string& line, const std::string& where) {
    return Prompt{.where = where, .text = line, .tokens = {}};
  });
}

std::vector<Prompt> read_token_prompts(const std::filesystem::path& path) {
  return read_lines(path, [](const std::string& line, const std::string& where) {
    return Prompt{.where = where, .text = {}, .tokens = ids_of(line, where)};
  });
}

void check_prompts(const std::vector<Prompt>& prompts, std::int64_t vocab_size,
                   std::int64_t context) {
  for (const Prompt& prompt : prompts) {
    if (prompt.tokens.empty()) {
      throw DataError(prompt.where + ": the tokenizer makes no token of it; give more text");
    }
    if (static_cast<std::int64_t>(prompt.tokens.size()) >= context) {
      throw DataError(prompt.where + ": has " + counted(prompt.tokens.size(), "token") +
                      ", which leave no room in the model's context of " + std::to_string(context) +
                      "; shorten it");
    }
    for (const std::int64_t token : prompt.tokens) {
      if (token < vocab_size) continue;
      throw DataError(prompt.where + ": token " + std::to_string(token) +
                      " is beyond the model's vocabulary of " + std::to_string(vocab_size) +
                      "; is the tokenizer that of another model?");
    }
  }
}

}  // namespace strata::tool
