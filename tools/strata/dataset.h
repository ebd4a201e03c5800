#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "document_store.h"
#include "finetune_options.h"
#include "interruption.h"
#include "row_source.h"
#include "strata/base/log.h"
#include "strata/formats/token_data.h"

namespace strata::tool {

/// A checksum of all tokens of the range, whatever file and encoding they are in. Reads them once.
[[nodiscard]] std::uint64_t checksum(const TokenRange& range, const Interruption& interruption);

/// The data of a run: the training data and, when asked for, the part held out of it. It is a
/// stretch of tokens each, or documents in sequences.
class Dataset {
 public:
  /// Opens --data and --val-data, or splits --data by --val-fraction: its last part is held out.
  /// Reads both files once, so that every token is known to be one of the vocabulary's. Text and
  /// JSON lines become tokens by the tokenizer of --model, where that has one. `log`: for notes and
  /// warnings; null: none are given.
  /// Throws DataError for a part shorter than a sequence and the token after it, or in which
  /// nothing bears loss, and for data and held-out data of two kinds; ConfigError for options that
  /// data of this kind has no use for; what TokenData, tokenized_text and tokenized_examples throw;
  /// Interrupted.
  Dataset(const FinetuneOptions& options, std::int64_t vocab_size, std::int64_t seq_len,
          const Interruption& interruption, Logger* log = nullptr);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  // A stretch of tokens:
  [[nodiscard]] const TokenRange& train() const { return train_; }
  [[nodiscard]] const std::optional<TokenRange>& validation() const { return validation_; }

  // Documents; null without:
  [[nodiscard]] const std::shared_ptr<const DocumentRows>& train_rows() const {
    return train_rows_;
  }
  [[nodiscard]] const std::shared_ptr<const DocumentRows>& validation_rows() const {
    return validation_rows_;
  }

  [[nodiscard]] bool has_documents() const { return train_rows_ != nullptr; }
  [[nodiscard]] bool has_validation() const { return validation_ || validation_rows_; }
  /// Bytes are the tokens.
  [[nodiscard]] bool is_text() const { return is_text_; }
  /// The tokenizer of --model has made the tokens.
  [[nodiscard]] bool is_tokenized() const { return is_tokenized_; }
  /// Tokens of an epoch.
  [[nodiscard]] std::uint64_t train_tokens() const;
  /// "1,000 tokens to train on, none held out", and what became of documents: for people.
  [[nodiscard]] std::string description() const;
  /// The training or held-out data as runs compare it: how much it is, and its checksum.
  [[nodiscard]] std::string train_identity(const Interruption& interruption) const;
  [[nodiscard]] std::string validation_identity(const Interruption& interruption) const;
  /// The first token.
  [[nodiscard]] std::int64_t first_token() const;
  /// The markup around the words of a text (TokenData::markup).
  [[nodiscard]] std::string_view markup() const;

 private:
  using Tokens = std::unique_ptr<formats::TokenData>;
  /// A file, of tokens or of documents.
  struct File {
    Tokens tokens;
    std::shared_ptr<const DocumentStore> documents;
    bool is_bytes = false, is_tokenized = false;
    bool has_texts = false;  ///< documents that go on in another sequence
  };
  [[nodiscard]] File open(const std::filesystem::path& path, const FinetuneOptions& options,
                          std::int64_t vocab_size, const Interruption& interruption, Logger* log);
  void take_tokens(const FinetuneOptions& options, std::int64_t seq_len, File file,
                   std::optional<File> held_out);
  void take_documents(const FinetuneOptions& options, std::int64_t seq_len, const File& file,
                      const std::optional<File>& held_out);

  std::filesystem::path path_;
  bool is_text_ = false, is_tokenized_ = false;
  std::string_view markup_;
  Tokens train_file_;
  Tokens validation_file_;  ///< null unless --val-data
  TokenRange train_;
  std::optional<TokenRange> validation_;
  std::shared_ptr<const DocumentStore> store_, validation_store_;
  std::shared_ptr<const DocumentRows> train_rows_, validation_rows_;
};

}  // namespace strata::tool
