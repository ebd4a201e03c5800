#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "prompts.h"

namespace strata::tool {

/// What was made of a prompt.
struct GeneratedText {
  const Prompt& prompt;
  std::span<const std::int64_t> tokens;
  std::string text;         ///< empty without a tokenizer
  std::string_view reason;  ///< why it is complete: "length", "eos" or "context"
};

/// A line of JSON: the prompt, the text, the tokens of both, and the reason.
[[nodiscard]] std::string json_line(const GeneratedText& made, bool has_text);

/// The part of `text` that is new after `shown`, without a last character that is not whole yet
/// (the tokenizer shows it as U+FFFD).
[[nodiscard]] std::string_view new_part(std::string_view text, std::size_t shown);

}  // namespace strata::tool
