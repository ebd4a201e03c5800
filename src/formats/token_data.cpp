#include "strata/formats/token_data.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "formats/regular_file.h"
#include "formats/text_check.h"
#include "formats/token_layout.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

constexpr std::uint64_t kPieceBytes = 1u << 16;
static_assert(std::endian::native == std::endian::little, "token files are read as they lie");

template <class Token>
void widen(std::span<const std::byte> bytes, std::span<std::int64_t> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Token token;
    std::memcpy(&token, bytes.data() + i * sizeof(Token), sizeof(Token));
    out[i] = static_cast<std::int64_t>(token);
  }
}

}  // namespace

std::string_view name_of(TokenEncoding encoding) {
  switch (encoding) {
    case TokenEncoding::kBytes: return "bytes";
    case TokenEncoding::kUint8: return "uint8";
    case TokenEncoding::kUint16: return "uint16";
    case TokenEncoding::kUint32: return "uint32";
    case TokenEncoding::kUint64: return "uint64";
    case TokenEncoding::kInt16: return "int16";
    case TokenEncoding::kInt32: return "int32";
    case TokenEncoding::kInt64: return "int64";
  }
  return "unknown";
}

TokenData::TokenData(std::unique_ptr<RegularFile> file, std::int64_t vocab_size,
                     TokenEncoding encoding, std::uint64_t first_byte, bool taken_for_text)
    : file_(std::move(file)),
      vocab_size_(vocab_size),
      encoding_(encoding),
      first_byte_(first_byte),
      size_((file_->size() - first_byte) / bytes_of(encoding)),
      taken_for_text_(taken_for_text) {}

TokenData::TokenData(TokenData&&) noexcept = default;
TokenData& TokenData::operator=(TokenData&&) noexcept = default;
TokenData::~TokenData() = default;

TokenData TokenData::from_file(const std::filesystem::path& path, std::int64_t vocab_size,
                               std::optional<TokenEncoding> encoding) {
  if (vocab_size <= 0) {
    throw ConfigError(path.string() + ": a vocabulary of " + std::to_string(vocab_size) +
                      " tokens");
  }
  auto file = std::make_unique<RegularFile>(path, RegularFile::Links::kFollow);
  const TokenLayout layout = layout_of(*file, vocab_size, encoding);
  const std::uint64_t data_bytes = file->size() - layout.first_byte;
  if (data_bytes == 0) throw DataError(path.string() + ": is empty; there is nothing to train on");
  const std::uint64_t token_bytes = bytes_of(layout.encoding);
  if (data_bytes % token_bytes != 0) {
    throw DataError(path.string() + ": " + std::to_string(data_bytes) +
                    " bytes are not a whole number of " + std::string(name_of(layout.encoding)) +
                    " tokens; it is truncated or of another encoding");
  }
  const bool taken_for_text = !encoding && layout.encoding == TokenEncoding::kBytes;
  return {std::move(file), vocab_size, layout.encoding, layout.first_byte, taken_for_text};
}

const std::filesystem::path& TokenData::path() const { return file_->path(); }

void TokenData::read_bytes(std::uint64_t begin, std::span<std::byte> out) const {
  file_->read(first_byte_ + begin * bytes_of(encoding_), out);
}

void TokenData::read(std::uint64_t begin, std::span<std::int64_t> out) const {
  if (begin > size_ || out.size() > size_ - begin) {
    throw UsageError(path().string() + ": has " + std::to_string(size_) + " tokens; asked for " +
                     std::to_string(out.size()) + " from token " + std::to_string(begin));
  }
  const std::uint64_t token_bytes = bytes_of(encoding_);
  std::array<std::byte, kPieceBytes> piece;
  while (!out.empty()) {
    const auto tokens = out.first(std::min<std::size_t>(out.size(), kPieceBytes / token_bytes));
    const auto bytes = std::span(piece).first(tokens.size() * token_bytes);
    read_bytes(begin, bytes);
    switch (encoding_) {
      case TokenEncoding::kBytes:
      case TokenEncoding::kUint8: widen<std::uint8_t>(bytes, tokens); break;
      case TokenEncoding::kUint16: widen<std::uint16_t>(bytes, tokens); break;
      case TokenEncoding::kUint32: widen<std::uint32_t>(bytes, tokens); break;
      case TokenEncoding::kUint64: widen<std::uint64_t>(bytes, tokens); break;
      case TokenEncoding::kInt16: widen<std::int16_t>(bytes, tokens); break;
      case TokenEncoding::kInt32: widen<std::int32_t>(bytes, tokens); break;
      case TokenEncoding::kInt64: widen<std::int64_t>(bytes, tokens); break;
    }
    check_vocabulary(tokens, first_byte_ + begin * token_bytes);
    begin += tokens.size();
    out = out.subspan(tokens.size());
  }
}

void TokenData::check_vocabulary(std::span<const std::int64_t> tokens, std::uint64_t offset) const {
  const auto beyond = std::find_if(tokens.begin(), tokens.end(),
                                   [this](std::int64_t id) { return id < 0 || id >= vocab_size_; });
  if (beyond == tokens.end()) return;
  offset += static_cast<std::uint64_t>(beyond - tokens.begin()) * bytes_of(encoding_);
  throw DataError(
      path().string() + ": token id " + std::to_string(*beyond) + " at byte " +
      std::to_string(offset) + " is " + (*beyond < 0 ? "negative" : "beyond the vocabulary of ") +
      (*beyond < 0 ? "" : std::to_string(vocab_size_) + " tokens") + "; the data is read as " +
      std::string(name_of(encoding_)) + " and may be of another encoding or tokenizer");
}

void TokenData::check_all(const std::function<void()>& before_each_piece) const {
  TextCheck text(path());
  std::array<std::int64_t, kPieceBytes> tokens;
  std::array<std::byte, kPieceBytes> bytes;
  for (std::uint64_t begin = 0; begin < size_; begin += tokens.size()) {
    if (before_each_piece) before_each_piece();
    const auto count = std::min<std::uint64_t>(tokens.size(), size_ - begin);
    read(begin, std::span(tokens).first(count));
    if (!taken_for_text_) continue;
    const auto piece = std::span(bytes).first(count);
    read_bytes(begin, piece);
    text.take(piece, begin);
  }
}

std::string_view TokenData::markup() const {
  constexpr std::size_t kLooked = 256;
  if (encoding_ != TokenEncoding::kBytes) return {};
  std::string head(std::min<std::uint64_t>(kLooked, size_), '\0');
  read_bytes(0, std::as_writable_bytes(std::span(head)));
  return markup_of(head, path());
}

}  // namespace strata::formats
