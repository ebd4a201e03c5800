#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "example_file.h"
#include "interruption.h"

namespace strata::tool {

/// The tokenizer of a model directory, in a Python process of its own: the model's own files, read
/// by the package transformers or, where that is missing, tokenizers. Python is the program that
/// the variable STRATA_PYTHON names, else the first python3 on PATH.
///
/// All member functions throw ConfigError, saying what to do, where there is no such Python, no
/// package or no tokenizer; DataError for what the tokenizer does not take; DeadlineExceeded when
/// it does not answer within five minutes; Interrupted. Thread: one at a time.
class TokenizerProcess {
 public:
  /// Starts the process and waits for its first word. `instead`: what can be given where there is
  /// no tokenizer, for messages. `interruption` must outlive it.
  TokenizerProcess(const std::filesystem::path& model, const Interruption& interruption,
                   std::string instead = "give token ids with --tokens");
  ~TokenizerProcess();
  TokenizerProcess(const TokenizerProcess&) = delete;
  TokenizerProcess& operator=(const TokenizerProcess&) = delete;

  /// Whether a directory holds a tokenizer.
  [[nodiscard]] static bool is_in(const std::filesystem::path& model);
  /// The files that decide what tokens a text has, those that are there.
  [[nodiscard]] static std::vector<std::filesystem::path> files_of(
      const std::filesystem::path& model);

  /// Whether chats have a template, of the model or in its tokenizer's files.
  [[nodiscard]] bool has_chat_template() const { return has_chat_template_; }

  /// The tokens of UTF-8 texts, those that the tokenizer adds itself (a first one, say) included.
  [[nodiscard]] std::vector<std::vector<std::int64_t>> encode(std::span<const std::string> texts);
  /// The same without those that it adds itself.
  [[nodiscard]] std::vector<std::vector<std::int64_t>> encode_plain(
      std::span<const std::string> texts);

  /// Tokens to train on, and the ranges [begin, end) of them that bear loss.
  struct Document {
    std::vector<std::int64_t> ids;
    std::vector<std::pair<std::size_t, std::size_t>> bearing;
  };
  /// Those of examples. A text is one whole, with the token that ends texts, and bears loss; so
  /// does what follows a prompt, with that token. A chat is what the template makes of it, and its
  /// answers bear loss, with the special token that ends each. `everything`: all tokens do. Throws
  /// DataError, naming the example, for a chat that the template does not take, or of which it
  /// does not say where the answers are.
  [[nodiscard]] std::vector<Document> documents(std::span<const Example> examples, bool everything);

  /// The texts of tokens, special ones too.
  [[nodiscard]] std::vector<std::string> texts(std::span<const std::vector<std::int64_t>> ids);
  /// The text that `tokens` add to `before`, without special tokens.
  [[nodiscard]] std::string continuation(std::span<const std::int64_t> before,
                                         std::span<const std::int64_t> tokens);

 private:
  void start(const std::filesystem::path& model);
  void stop() noexcept;
  [[nodiscard]] std::string ask(const std::string& request);
  void send(const std::string& line);
  [[nodiscard]] std::string receive();

  const Interruption& interruption_;
  std::string python_, instead_;
  bool has_chat_template_ = false;
  pid_t process_ = -1;
  int to_ = -1, from_ = -1;
  std::string received_;  ///< bytes beyond the last line
};

}  // namespace strata::tool
