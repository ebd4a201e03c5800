#include "dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "example_file.h"
#include "plural.h"
#include "step_line.h"
#include "strata/base/error.h"
#include "tokenized_data.h"
#include "tokenizer_process.h"

namespace strata::tool {
namespace {

TokenRange whole(const formats::TokenData& file) {
  return {.file = &file, .begin = 0, .count = file.size()};
}

void require_a_sequence(const TokenRange& range, std::int64_t seq_len, const char* what,
                        const char* remedy) {
  const auto needed = static_cast<std::uint64_t>(seq_len) + 1;
  if (range.count >= needed) return;
  throw DataError(range.file->path().string() + ": the " + what + " has " +
                  counted(range.count, "token") + ", and one sequence takes " +
                  std::to_string(needed) + " (--seq-len " + std::to_string(seq_len) +
                  " and the token after it); " + remedy);
}

/// "text, whose bytes are the tokens", ...
template <class File>
std::string kind_of(const File& file) {
  if (file.documents) return "JSON lines";
  if (file.is_bytes) return "text, whose bytes are the tokens";
  return file.is_tokenized ? "text" : "token ids";
}

// A loss on bytes says nothing about a model of a tokenizer's ids, nor the other way round.
template <class File>
void require_same_kind(const std::filesystem::path& train_path, const File& train,
                       const std::filesystem::path& held_out_path, const File& held_out) {
  const bool same = train.documents != nullptr
                        ? held_out.documents != nullptr
                        : held_out.documents == nullptr && train.is_bytes == held_out.is_bytes;
  if (same) return;
  throw DataError(train_path.string() + " holds " + kind_of(train) + ", and " +
                  held_out_path.string() + " " + kind_of(held_out) +
                  "; give --data and --val-data of one kind");
}

void require_bearing(const DocumentRows& rows, const std::filesystem::path& path,
                     const char* what) {
  if (rows.count() > 0) return;
  throw DataError(path.string() + ": in the " + what + ", " +
                  counted(static_cast<std::int64_t>(rows.counts().documents), "example") +
                  ", nothing bears loss within --seq-len " + std::to_string(rows.layout().length) +
                  "; give more data, a larger --seq-len or --loss-on everything");
}

std::string identity_of(const DocumentRows& rows, const DocumentStore& store) {
  return with_separators(rows.counts().documents) + " examples in " +
         with_separators(rows.count()) + " sequences (checksum " +
         std::to_string(store.checksum()) + ")";
}

std::string identity_of(const TokenRange& range, const Interruption& interruption) {
  return with_separators(range.count) + " tokens (checksum " +
         std::to_string(checksum(range, interruption)) + ")";
}

}  // namespace

std::uint64_t checksum(const TokenRange& range, const Interruption& interruption) {
  constexpr std::uint64_t kPieceTokens = 1 << 16;
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  if (state == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(state.get());
  std::vector<std::int64_t> tokens;
  for (std::uint64_t begin = 0; begin < range.count; begin += kPieceTokens) {
    interruption.check();
    tokens.resize(std::min(kPieceTokens, range.count - begin));
    range.file->read(range.begin + begin, tokens);
    XXH3_64bits_update(state.get(), tokens.data(), tokens.size() * sizeof(std::int64_t));
  }
  return XXH3_64bits_digest(state.get());
}

Dataset::Dataset(const FinetuneOptions& options, std::int64_t vocab_size, std::int64_t seq_len,
                 const Interruption& interruption, Logger* log)
    : path_(*options.data) {
  File file = open(path_, options, vocab_size, interruption, log);
  std::optional<File> held_out;
  if (options.val_data) {
    held_out = open(*options.val_data, options, vocab_size, interruption, log);
    require_same_kind(path_, file, *options.val_data, *held_out);
  }
  is_text_ = file.is_bytes;
  is_tokenized_ = file.is_tokenized;
  if (file.documents) {
    take_documents(options, seq_len, file, held_out);
  } else {
    take_tokens(options, seq_len, std::move(file), std::move(held_out));
  }
}

Dataset::File Dataset::open(const std::filesystem::path& path, const FinetuneOptions& options,
                            std::int64_t vocab_size, const Interruption& interruption,
                            Logger* log) {
  const bool has_tokenizer = options.model && options.tokenizer == TextTokens::kModel &&
                             TokenizerProcess::is_in(*options.model);
  const TokenMaking making{.model = has_tokenizer ? options.model : std::nullopt,
                           .loss_on = options.loss_on.value_or(LossOn::kAnswers),
                           .may_keep = !options.show_batch,
                           .vocab_size = vocab_size,
                           .log = log};
  if (ExampleFile::is_one(path)) {
    return {.tokens = nullptr,
            .documents = tokenized_examples(path, making, interruption),
            .is_bytes = !has_tokenizer,
            .is_tokenized = has_tokenizer,
            .has_texts = holds_texts(path)};
  }
  constexpr std::int64_t kBytes = 256;
  const auto check = [&](formats::TokenData tokens) {
    tokens.check_all([&] { interruption.check(); });
    return std::make_unique<formats::TokenData>(std::move(tokens));
  };
  const auto open_file = [&](std::int64_t vocabulary) {
    return formats::TokenData::from_file(path, vocabulary);
  };
  formats::TokenData as_it_is = open_file(vocab_size);
  const bool is_bytes = as_it_is.encoding() == formats::TokenEncoding::kBytes;
  if (path == path_) markup_ = as_it_is.markup();
  File file;
  if (!is_bytes || !has_tokenizer) {
    file.tokens = check(std::move(as_it_is));
    file.is_bytes = is_bytes;
    return file;
  }
  (void)check(open_file(std::max(vocab_size, kBytes)));  // that it is text
  file.tokens = check(tokenized_text(path, making, interruption));
  file.is_tokenized = true;
  return file;
}

void Dataset::take_tokens(const FinetuneOptions& options, std::int64_t seq_len, File file,
                          std::optional<File> held_out) {
  for (const auto& [given, name] : {std::pair{options.loss_on.has_value(), "--loss-on"},
                                    std::pair{options.pack.has_value(), "--pack"}}) {
    if (given) {
      throw ConfigError(std::string(name) + " is for JSON lines, and " + path_.string() +
                        " holds " + kind_of(file) + ", which bears loss everywhere; leave it out");
    }
  }
  train_file_ = std::move(file.tokens);
  train_ = whole(*train_file_);
  const char* validation_remedy = "give more data, or a smaller --seq-len";
  if (held_out) {
    validation_file_ = std::move(held_out->tokens);
    validation_ = whole(*validation_file_);
  } else if (options.val_fraction > 0) {
    const auto count = static_cast<std::uint64_t>(
        std::llround(static_cast<double>(train_.count) * options.val_fraction));
    train_.count -= count;
    validation_ = TokenRange{train_.file, train_.count, count};
    validation_remedy = "give more data, a larger --val-fraction or a smaller --seq-len";
  }
  require_a_sequence(train_, seq_len, "training data", "give more data, or a smaller --seq-len");
  if (validation_) {
    require_a_sequence(*validation_, seq_len, "held-out data", validation_remedy);
  }
}

void Dataset::take_documents(const FinetuneOptions& options, std::int64_t seq_len, const File& file,
                             const std::optional<File>& held_out) {
  const auto rows_of = [&](const File& of, std::uint64_t first, std::uint64_t count) {
    return std::make_shared<const DocumentRows>(of.documents, first, count,
                                                RowLayout{.length = seq_len,
                                                          .packs = options.pack.value_or(true),
                                                          .cuts_in_parts = of.has_texts});
  };
  store_ = validation_store_ = file.documents;
  std::uint64_t count = store_->size();
  if (held_out) {
    validation_store_ = held_out->documents;
    validation_rows_ = rows_of(*held_out, 0, validation_store_->size());
  } else if (options.val_fraction > 0) {
    const auto part =
        static_cast<std::uint64_t>(std::llround(static_cast<double>(count) * options.val_fraction));
    count -= part;
    validation_rows_ = rows_of(file, count, part);
  }
  train_rows_ = rows_of(file, 0, count);
  require_bearing(*train_rows_, path_, "training data");
  if (validation_rows_) {
    require_bearing(*validation_rows_, options.val_data.value_or(path_), "held-out data");
  }
}

std::uint64_t Dataset::train_tokens() const {
  return has_documents() ? train_rows_->counts().tokens : train_.count;
}

std::string Dataset::description() const {
  if (!has_documents()) {
    return with_separators(train_.count) + " tokens to train on" +
           (validation_ ? ", " + with_separators(validation_->count) + " held out"
                        : ", none held out");
  }
  const RowCounts& counts = train_rows_->counts();
  const RowLayout& layout = train_rows_->layout();
  std::string text = with_separators(counts.documents) + " examples of " +
                     with_separators(counts.tokens) + " tokens to train on, of which " +
                     with_separators(counts.bearing) + " bear loss, in " +
                     with_separators(train_rows_->count()) + " sequences";
  if (layout.packs) {
    const double room =
        static_cast<double>(train_rows_->count()) * static_cast<double>(layout.length);
    text += " (" +
            std::to_string(static_cast<int>(100.0 * static_cast<double>(counts.tokens) / room)) +
            "% full)";
  }
  text += validation_rows_
              ? ", " + with_separators(validation_rows_->counts().documents) + " examples held out"
              : ", none held out";
  if (counts.longer > 0) {
    text += "; " + with_separators(counts.longer) + " are longer than a sequence and " +
            (layout.cuts_in_parts
                 ? "go on in others"
                 : "lose their ends, " + with_separators(counts.lost_tokens) + " tokens");
  }
  if (counts.silent > 0) {
    text += "; " + with_separators(counts.silent) + " in which nothing bears loss are left out";
  }
  return text;
}

std::string Dataset::train_identity(const Interruption& interruption) const {
  return has_documents() ? identity_of(*train_rows_, *store_) : identity_of(train_, interruption);
}

std::string Dataset::validation_identity(const Interruption& interruption) const {
  if (!has_validation()) return "none";
  return has_documents() ? identity_of(*validation_rows_, *validation_store_)
                         : identity_of(*validation_, interruption);
}

std::int64_t Dataset::first_token() const {
  if (has_documents()) return train_rows_->row(0).tokens.front();
  std::int64_t token = 0;
  train_.file->read(train_.begin, std::span(&token, 1));
  return token;
}

std::string_view Dataset::markup() const { return markup_; }

}  // namespace strata::tool
