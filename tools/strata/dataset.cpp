#include "dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <string>
#include <vector>

#include "plural.h"
#include "strata/base/error.h"

namespace strata::tool {
namespace {

std::unique_ptr<formats::TokenData> open(const std::filesystem::path& path, std::int64_t vocab_size,
                                         const Interruption& interruption) {
  auto file = std::make_unique<formats::TokenData>(formats::TokenData::from_file(path, vocab_size));
  file->check_all([&] { interruption.check(); });
  return file;
}

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

// A loss on bytes says nothing about a model of a tokenizer's ids, nor the other way round.
void require_same_tokens(const formats::TokenData& train, const formats::TokenData& held_out) {
  const auto is_text = [](const formats::TokenData& file) {
    return file.encoding() == formats::TokenEncoding::kBytes;
  };
  if (is_text(train) == is_text(held_out)) return;
  const std::string text = is_text(train) ? train.path().string() : held_out.path().string();
  const std::string ids = is_text(train) ? held_out.path().string() : train.path().string();
  throw DataError(text + " is text, whose bytes are the tokens, and " + ids +
                  " holds token ids; give --data and --val-data of one kind");
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
                 const Interruption& interruption)
    : train_file_(open(*options.data, vocab_size, interruption)), train_(whole(*train_file_)) {
  const char* validation_remedy = "give more data, or a smaller --seq-len";
  if (options.val_data) {
    validation_file_ = open(*options.val_data, vocab_size, interruption);
    validation_ = whole(*validation_file_);
    require_same_tokens(*train_file_, *validation_file_);
  } else if (options.val_fraction > 0) {
    const auto held_out = static_cast<std::uint64_t>(
        std::llround(static_cast<double>(train_.count) * options.val_fraction));
    train_.count -= held_out;
    validation_ = TokenRange{train_.file, train_.count, held_out};
    validation_remedy = "give more data, a larger --val-fraction or a smaller --seq-len";
  }
  require_a_sequence(train_, seq_len, "training data", "give more data, or a smaller --seq-len");
  if (validation_) {
    require_a_sequence(*validation_, seq_len, "held-out data", validation_remedy);
  }
}

bool Dataset::is_text() const { return train_file_->encoding() == formats::TokenEncoding::kBytes; }

}  // namespace strata::tool
