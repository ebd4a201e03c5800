#include "tokenized_data.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "example_file.h"
#include "plural.h"
#include "strata/base/error.h"
#include "strata/formats/writable_file.h"
#include "tokenizer_process.h"

namespace strata::tool {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPieceBytes = 1 << 20;
constexpr std::size_t kExamplesAtATime = 256;
constexpr const char* kInstead =
    "let the bytes of text be the tokens (--tokenizer bytes), or give token ids as --data";

/// A checksum of what decides the tokens of a file.
class Key {
 public:
  Key() {
    if (state_ == nullptr) throw std::bad_alloc();
    XXH3_64bits_reset(state_.get());
  }
  void add(std::string_view text) {
    const std::uint64_t size = text.size();
    XXH3_64bits_update(state_.get(), &size, sizeof size);
    XXH3_64bits_update(state_.get(), text.data(), text.size());
  }
  /// Its content.
  void add_file(const fs::path& path, const Interruption& interruption) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw system_error("open", path.string(), errno);
    std::vector<char> piece(kPieceBytes);
    while (stream) {
      interruption.check();
      stream.read(piece.data(), static_cast<std::streamsize>(piece.size()));
      XXH3_64bits_update(state_.get(), piece.data(), static_cast<std::size_t>(stream.gcount()));
    }
    if (stream.bad()) throw system_error("read", path.string(), EIO);
  }
  [[nodiscard]] std::uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_{XXH3_createState(),
                                                                  &XXH3_freeState};
};

/// The name does not count: the same file elsewhere has the same tokens.
std::uint64_t key_of(const fs::path& data, std::string_view kind, const TokenMaking& making,
                     const Interruption& interruption) {
  Key key;
  key.add("strata tokens 1");
  key.add(kind);
  key.add(making.loss_on == LossOn::kEverything ? "everything" : "answers");
  if (making.model) {
    for (const fs::path& file : TokenizerProcess::files_of(*making.model)) {
      key.add(file.filename().string());
      key.add_file(file, interruption);
    }
  }
  key.add_file(data, interruption);
  return key.value();
}

/// A file that is made whole and then has its name, or never has one.
class TokenFile {
 public:
  TokenFile(const fs::path& data, std::uint64_t key, const char* suffix) : data_(data) {
    char digits[24];
    std::snprintf(digits, sizeof digits, ".%016llx", static_cast<unsigned long long>(key));
    kept_ = fs::absolute(data).parent_path() / ("." + data.filename().string() + digits + suffix);
  }
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;
  ~TokenFile() {
    std::error_code ignored;
    if (!partial_.empty()) fs::remove(partial_, ignored);
  }

  /// Where a run that kept it has put it.
  [[nodiscard]] const fs::path& kept() const { return kept_; }

  /// Makes an empty file to write to.
  [[nodiscard]] const fs::path& begin(const TokenMaking& making, bool may_keep) {
    if (may_keep) {
      partial_ = kept_;
      partial_ += ".partial-" + std::to_string(::getpid());
      if (std::ofstream(partial_, std::ios::binary)) return partial_;
      const int code = errno;
      if (making.log != nullptr) {
        making.log->warning(system_error("write", partial_.string(), code).what() +
                            std::string("; the tokens of ") + data_.string() +
                            " are made anew by every run");
      }
    }
    is_kept_ = false;
    std::error_code code;
    const fs::path directory = fs::temp_directory_path(code);
    std::string name = ((code ? fs::path("/tmp") : directory) / "strata-tokens-XXXXXX").string();
    const int descriptor = ::mkstemp(name.data());
    if (descriptor < 0) throw system_error("create", name, errno);
    ::close(descriptor);
    partial_ = name;
    return partial_;
  }

  /// Gives it its name, if it is kept. It can be opened at what is returned until this object goes.
  [[nodiscard]] const fs::path& finish(const TokenMaking& making) {
    if (!is_kept_) return partial_;
    std::error_code code;
    fs::rename(partial_, kept_, code);
    if (!code) return kept_;
    if (making.log != nullptr) {
      making.log->warning(
          system_error("rename " + partial_.string() + " to", kept_.string(), code.value()).what() +
          std::string("; the tokens are not kept"));
    }
    return partial_;
  }

 private:
  fs::path data_, kept_, partial_;
  bool is_kept_ = true;
};

// ---- examples
// ------------------------------------------------------------------------------------

/// Looks at every line. Returns the kind.
Example::Kind check_examples(const fs::path& path, const TokenMaking& making,
                             const Interruption& interruption) {
  ExampleFile file(path);
  std::optional<Example::Kind> kind;
  std::uint64_t count = 0;
  while (const std::optional<Example> example = file.next()) {
    if (++count % kExamplesAtATime == 0) interruption.check();
    kind = example->kind;
  }
  if (!kind) throw DataError(path.string() + ": has no examples; there is nothing to train on");
  if (making.log != nullptr && !file.unread_keys().empty()) {
    std::string keys;
    for (const std::string& key : file.unread_keys()) keys += (keys.empty() ? "" : ", ") + key;
    making.log->info("data " + path.string() + ": examples are " + std::string(name_of(*kind)) +
                     "; their other keys are not looked at: " + keys);
  }
  return *kind;
}

using Documents = std::vector<TokenizerProcess::Document>;

/// The bytes of examples are their tokens.
Documents documents_of_bytes(const std::vector<Example>& examples, LossOn loss_on) {
  Documents made;
  for (const Example& example : examples) {
    TokenizerProcess::Document& document = made.emplace_back();
    for (const unsigned char byte : example.prompt + example.text) document.ids.push_back(byte);
    const bool is_all = loss_on == LossOn::kEverything || example.kind == Example::Kind::kText;
    document.bearing = {{is_all ? 0 : example.prompt.size(), document.ids.size()}};
  }
  return made;
}

[[noreturn]] void refuse_chats(const fs::path& path, const TokenMaking& making) {
  const std::string holds = path.string() + ": holds chats, and ";
  if (!making.model) {
    throw ConfigError(holds +
                      "there is no tokenizer with a chat template to write them by; give a --model "
                      "that has one (and no --tokenizer bytes), or lines of {\"prompt\", "
                      "\"completion\"}");
  }
  throw ConfigError(
      holds + making.model->string() +
      " has no chat template (chat_template.jinja, or \"chat_template\" in "
      "tokenizer_config.json, which the Python package transformers reads); copy that "
      "of the model's instruct version, or give lines of {\"prompt\", "
      "\"completion\"}");
}

/// Makes the tokens of examples of one kind.
class ExampleTokens {
 public:
  ExampleTokens(const fs::path& path, Example::Kind kind, const TokenMaking& making,
                const Interruption& interruption)
      : making_(making) {
    if (making.model) {
      tokenizer_ = std::make_unique<TokenizerProcess>(*making.model, interruption, kInstead);
    }
    const bool has_template = tokenizer_ && tokenizer_->has_chat_template();
    const bool is_chat = kind == Example::Kind::kMessages || kind == Example::Kind::kConversations;
    if (is_chat && !has_template) refuse_chats(path, making);
    is_instruction_prompt_ = kind == Example::Kind::kInstruction && !has_template;
    if (is_instruction_prompt_ && making.log != nullptr) {
      making.log->info("data " + path.string() +
                       ": without a chat template instructions are put into Alpaca's own prompt");
    }
  }

  [[nodiscard]] Documents of(std::vector<Example> examples) {
    if (!tokenizer_) return documents_of_bytes(examples, making_.loss_on);
    if (is_instruction_prompt_) {
      for (Example& example : examples) example.kind = Example::Kind::kCompletion;
    }
    return tokenizer_->documents(examples, making_.loss_on == LossOn::kEverything);
  }

 private:
  const TokenMaking& making_;
  std::unique_ptr<TokenizerProcess> tokenizer_;
  bool is_instruction_prompt_ = false;
};

void require_in_vocabulary(std::int64_t id, const std::string& where, const TokenMaking& making) {
  if (id >= 0 && id < making.vocab_size) return;
  throw DataError(where + ": token id " + std::to_string(id) +
                  " is beyond the model's vocabulary of " + std::to_string(making.vocab_size) +
                  "; the tokenizer is another model's");
}

void write_documents(const std::vector<Example>& examples, ExampleTokens& tokens,
                     const TokenMaking& making, DocumentWriter& writer) {
  const Documents documents = tokens.of(examples);
  std::vector<MarkedToken> marked;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    marked.clear();
    for (const std::int64_t id : documents[i].ids) {
      require_in_vocabulary(id, examples[i].where, making);
      marked.push_back({.id = static_cast<std::uint32_t>(id), .bears = false});
    }
    for (const auto& [begin, end] : documents[i].bearing) {
      for (std::size_t at = begin; at < end; ++at) marked.at(at).bears = true;
    }
    writer.add(marked);
  }
}

// ---- text
// ----------------------------------------------------------------------------------------

/// The next piece of a text, cut before a line's end, where tokenizers cut as well; else between
/// characters. Empty at the end.
class TextPieces {
 public:
  explicit TextPieces(const fs::path& path) : path_(path), stream_(path, std::ios::binary) {
    if (!stream_) throw system_error("open", path.string(), errno);
  }
  [[nodiscard]] std::string next() {
    std::vector<char> read(kPieceBytes);
    while (rest_.size() < kPieceBytes && stream_) {
      stream_.read(read.data(), static_cast<std::streamsize>(kPieceBytes - rest_.size()));
      rest_.append(read.data(), static_cast<std::size_t>(stream_.gcount()));
    }
    if (stream_.bad()) throw system_error("read", path_.string(), EIO);
    std::size_t end = rest_.size();
    if (stream_) {
      const std::size_t newline = rest_.rfind('\n');
      if (newline != std::string::npos && newline > 0) {
        end = newline;
      } else {
        while (end > 1 && (static_cast<unsigned char>(rest_[end - 1]) & 0xc0) == 0x80) --end;
        --end;
      }
    }
    std::string piece = rest_.substr(0, end);
    rest_.erase(0, end);
    return piece;
  }

 private:
  fs::path path_;
  std::ifstream stream_;
  std::string rest_;
};

void write_text_tokens(const fs::path& path, const fs::path& target, const TokenMaking& making,
                       const Interruption& interruption) {
  TokenizerProcess tokenizer(*making.model, interruption, kInstead);
  TextPieces pieces(path);
  std::ofstream stream(target, std::ios::binary);
  for (std::string piece = pieces.next(); !piece.empty(); piece = pieces.next()) {
    interruption.check();
    std::vector<std::uint32_t> tokens;
    const auto ids = tokenizer.encode_plain(std::span(&piece, 1));
    for (const std::int64_t id : ids.at(0)) {
      require_in_vocabulary(id, path.string(), making);
      tokens.push_back(static_cast<std::uint32_t>(id));
    }
    stream.write(reinterpret_cast<const char*>(tokens.data()),
                 static_cast<std::streamsize>(tokens.size() * sizeof(std::uint32_t)));
  }
  stream.close();
  if (!stream) throw system_error("write", target.string(), errno);
  formats::sync_path(target);
}

}  // namespace

bool holds_texts(const fs::path& examples) {
  const std::optional<Example> first = ExampleFile(examples).next();
  return first && first->kind == Example::Kind::kText;
}

std::shared_ptr<const DocumentStore> tokenized_examples(const fs::path& path,
                                                        const TokenMaking& making,
                                                        const Interruption& interruption) {
  const std::uint64_t key = key_of(path, "examples", making, interruption);
  TokenFile file(path, key, ".tokens");
  auto kept = DocumentStore::open(file.kept(), key);
  if (kept && kept->largest_id() < making.vocab_size) return kept;
  const Example::Kind kind = check_examples(path, making, interruption);
  ExampleTokens tokens(path, kind, making, interruption);
  // The tokens of bytes are made in no time.
  DocumentWriter writer(file.begin(making, making.may_keep && making.model));
  ExampleFile examples(path);
  std::vector<Example> some;
  std::size_t bytes = 0;
  for (bool is_end = false; !is_end;) {
    std::optional<Example> example = examples.next();
    is_end = !example;
    if (example) {
      for (const Message& message : example->messages) bytes += message.content.size();
      bytes += example->prompt.size() + example->text.size();
      some.push_back(std::move(*example));
    }
    if (some.empty() || (!is_end && some.size() < kExamplesAtATime && bytes < kPieceBytes))
      continue;
    interruption.check();
    write_documents(some, tokens, making, writer);
    some.clear();
    bytes = 0;
  }
  writer.finish(key);
  auto store = DocumentStore::open(file.finish(making), key);
  if (store == nullptr) {
    throw DataError(path.string() + ": its tokens changed while they were written; start again");
  }
  return store;
}

formats::TokenData tokenized_text(const fs::path& path, const TokenMaking& making,
                                  const Interruption& interruption) {
  const std::uint64_t key = key_of(path, "text", making, interruption);
  TokenFile file(path, key, ".u32.bin");
  const auto open = [&](const fs::path& tokens) {
    return formats::TokenData::from_file(tokens, making.vocab_size,
                                         formats::TokenEncoding::kUint32);
  };
  std::error_code none_there;
  if (fs::exists(file.kept(), none_there)) return open(file.kept());
  write_text_tokens(path, file.begin(making, making.may_keep), making, interruption);
  return open(file.finish(making));
}

}  // namespace strata::tool
