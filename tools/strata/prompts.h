#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace strata::tool {

/// What a prompt is continued from, and where it was given ("prompts.txt:3", "--prompt").
struct Prompt {
  std::string where;
  std::string text;                  ///< empty where ids were given
  std::vector<std::int64_t> tokens;  ///< filled by the tokenizer where text was given
};

/// The prompts of a file of texts, one a line; a carriage return before a line's end is not part of
/// it. Throws DataError, naming the line, for an empty one, and for a file without any; IoError.
[[nodiscard]] std::vector<Prompt> read_text_prompts(const std::filesystem::path& path);

/// The prompts of a file of token ids, one a line, separated by spaces, tabs or commas. Throws as
/// read_text_prompts, and DataError for what is no id.
[[nodiscard]] std::vector<Prompt> read_token_prompts(const std::filesystem::path& path);

/// Throws DataError, naming the prompt, for one without tokens, one that leaves the context no
/// room, and one with a token beyond the vocabulary.
void check_prompts(const std::vector<Prompt>& prompts, std::int64_t vocab_size,
                   std::int64_t context);

}  // namespace strata::tool
