#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

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
  /// Starts the process and waits for its first word. `interruption` must outlive it.
  TokenizerProcess(const std::filesystem::path& model, const Interruption& interruption);
  ~TokenizerProcess();
  TokenizerProcess(const TokenizerProcess&) = delete;
  TokenizerProcess& operator=(const TokenizerProcess&) = delete;

  /// The tokens of UTF-8 texts, those that the tokenizer adds itself (a first one, say) included.
  [[nodiscard]] std::vector<std::vector<std::int64_t>> encode(std::span<const std::string> texts);
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
  std::string python_;
  pid_t process_ = -1;
  int to_ = -1, from_ = -1;
  std::string received_;  ///< bytes beyond the last line
};

}  // namespace strata::tool
