#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "document_store.h"
#include "finetune_options.h"
#include "interruption.h"
#include "strata/base/log.h"
#include "strata/formats/token_data.h"

namespace strata::tool {

/// How text becomes tokens, and where these are kept.
struct TokenMaking {
  std::optional<std::filesystem::path>
      model;  ///< whose tokenizer makes them; none: bytes are tokens
  LossOn loss_on = LossOn::kAnswers;
  bool may_keep = true;         ///< beside the data, for the next run
  std::int64_t vocab_size = 0;  ///< ids are below it
  Logger* log = nullptr;        ///< for warnings and notes; null: none are given
};

// Tokens are kept beside the data, in a hidden file of its name, found again by a checksum of the
// data, the tokenizer's files and the options; it appears by one rename. Where that cannot be
// written, or tokens are bytes, they are in a file without a name for as long as they are in use.

/// Whether the examples of a file are texts, which go on where a sequence ends.
[[nodiscard]] bool holds_texts(const std::filesystem::path& examples);

/// The documents of a file of JSON lines. Every line is looked at before the first is made tokens.
/// Throws what ExampleFile and TokenizerProcess throw; DataError for a file without examples and
/// for ids beyond the vocabulary; ConfigError for chats without a template; IoError; Interrupted.
[[nodiscard]] std::shared_ptr<const DocumentStore> tokenized_examples(
    const std::filesystem::path& path, const TokenMaking& making, const Interruption& interruption);

/// The tokens of a text, which is UTF-8, one whole without tokens that the tokenizer adds. Throws
/// as tokenized_examples does.
[[nodiscard]] formats::TokenData tokenized_text(const std::filesystem::path& path,
                                                const TokenMaking& making,
                                                const Interruption& interruption);

}  // namespace strata::tool
