#include "strata/formats/token_data.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "formats/regular_file.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

constexpr std::uint64_t kPieceBytes = 1u << 16;
static_assert(std::endian::native == std::endian::little, "token files are read as they lie");

std::uint64_t bytes_of(TokenEncoding encoding) {
  switch (encoding) {
    case TokenEncoding::kBytes: return 1;
    case TokenEncoding::kUint16: return 2;
    case TokenEncoding::kUint32: return 4;
  }
  return 1;
}

/// The header that llm.c writes: 256 int32, of which three say something.
struct LlmcHeader {
  static constexpr std::uint64_t kBytes = 1024;
  static constexpr std::int32_t kMagicUint16 = 20240520;
  static constexpr std::int32_t kMagicUint32 = 20240801;

  std::int32_t magic, version, tokens;

  [[nodiscard]] bool is_uint16() const { return magic == kMagicUint16 && version == 1; }
  [[nodiscard]] bool is_uint32() const { return magic == kMagicUint32 && version == 7; }
};

std::optional<LlmcHeader> read_llmc_header(const RegularFile& file) {
  if (file.size() < LlmcHeader::kBytes) return std::nullopt;
  LlmcHeader header{};
  file.read(0, std::as_writable_bytes(std::span(&header, 1)));
  if (!header.is_uint16() && !header.is_uint32()) return std::nullopt;
  return header;
}

struct Layout {
  TokenEncoding encoding;
  std::uint64_t first_byte;
};

Layout layout_of(const RegularFile& file, std::optional<TokenEncoding> encoding) {
  const std::string name = file.path().filename().string();
  if (!name.ends_with(".bin")) return {encoding.value_or(TokenEncoding::kBytes), 0};
  if (encoding == TokenEncoding::kBytes) return {*encoding, 0};
  const auto header = read_llmc_header(file);
  if (!header) {
    const bool wide = name.ends_with(".u32.bin");
    return {encoding.value_or(wide ? TokenEncoding::kUint32 : TokenEncoding::kUint16), 0};
  }
  const auto written = header->is_uint16() ? TokenEncoding::kUint16 : TokenEncoding::kUint32;
  const std::uint64_t tokens = (file.size() - LlmcHeader::kBytes) / bytes_of(written);
  if (header->tokens < 0 || static_cast<std::uint64_t>(header->tokens) != tokens) {
    throw DataError(file.path().string() + ": its header says " + std::to_string(header->tokens) +
                    " tokens, the file holds " + std::to_string(tokens) +
                    "; it is truncated or was written in part, make it again");
  }
  if (encoding && *encoding != written) {
    throw DataError(file.path().string() + ": its header says " + std::string(name_of(written)) +
                    ", asked for was " + std::string(name_of(*encoding)));
  }
  return {written, LlmcHeader::kBytes};
}

/// Read as uint16, uint32 ids are ids in the vocabulary with a zero (or the next few numbers)
/// after each, and training on them would go on without a word.
void refuse_wide_ids(const RegularFile& file, std::int64_t vocab_size) {
  constexpr std::size_t kIdsMin = 32;
  std::array<std::uint32_t, 4096> ids{};
  const std::size_t count = std::min<std::size_t>(ids.size(), file.size() / sizeof(ids[0]));
  if (count < kIdsMin) return;
  const auto first = std::span(ids).first(count);
  file.read(0, std::as_writable_bytes(first));
  const auto in_vocabulary = [vocab_size](std::uint32_t id) { return id < vocab_size; };
  if (!std::all_of(first.begin(), first.end(), in_vocabulary)) return;
  if (std::all_of(first.begin(), first.end(), [](std::uint32_t id) { return id == 0; })) return;
  throw DataError(
      file.path().string() +
      ": would be read as uint16, and holds uint32 token ids to all appearances; rename "
      "it to end in .u32.bin");
}

template <class Token>
void widen(std::span<const std::byte> bytes, std::span<std::int64_t> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Token token;
    std::memcpy(&token, bytes.data() + i * sizeof(Token), sizeof(Token));
    out[i] = token;
  }
}

}  // namespace

std::string_view name_of(TokenEncoding encoding) {
  switch (encoding) {
    case TokenEncoding::kBytes: return "bytes";
    case TokenEncoding::kUint16: return "uint16";
    case TokenEncoding::kUint32: return "uint32";
  }
  return "unknown";
}

TokenData::TokenData(std::unique_ptr<RegularFile> file, std::int64_t vocab_size,
                     TokenEncoding encoding, std::uint64_t first_byte)
    : file_(std::move(file)),
      vocab_size_(vocab_size),
      encoding_(encoding),
      first_byte_(first_byte),
      size_((file_->size() - first_byte) / bytes_of(encoding)) {}

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
  const Layout layout = layout_of(*file, encoding);
  const bool guessed = !encoding && layout.first_byte == 0;
  if (guessed && layout.encoding == TokenEncoding::kUint16) refuse_wide_ids(*file, vocab_size);
  const std::uint64_t data_bytes = file->size() - layout.first_byte;
  if (data_bytes == 0) throw DataError(path.string() + ": is empty; there is nothing to train on");
  const std::uint64_t token_bytes = bytes_of(layout.encoding);
  if (data_bytes % token_bytes != 0) {
    throw DataError(path.string() + ": " + std::to_string(data_bytes) +
                    " bytes are not a whole number of " + std::string(name_of(layout.encoding)) +
                    " tokens; it is truncated or of another encoding");
  }
  return {std::move(file), vocab_size, layout.encoding, layout.first_byte};
}

const std::filesystem::path& TokenData::path() const { return file_->path(); }

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
    const std::uint64_t offset = first_byte_ + begin * token_bytes;
    file_->read(offset, bytes);
    switch (encoding_) {
      case TokenEncoding::kBytes: widen<std::uint8_t>(bytes, tokens); break;
      case TokenEncoding::kUint16: widen<std::uint16_t>(bytes, tokens); break;
      case TokenEncoding::kUint32: widen<std::uint32_t>(bytes, tokens); break;
    }
    check_vocabulary(tokens, offset);
    begin += tokens.size();
    out = out.subspan(tokens.size());
  }
}

void TokenData::check_vocabulary(std::span<const std::int64_t> tokens, std::uint64_t offset) const {
  const auto beyond = std::find_if(tokens.begin(), tokens.end(),
                                   [this](std::int64_t id) { return id >= vocab_size_; });
  if (beyond == tokens.end()) return;
  offset += static_cast<std::uint64_t>(beyond - tokens.begin()) * bytes_of(encoding_);
  throw DataError(path().string() + ": token id " + std::to_string(*beyond) + " at byte " +
                  std::to_string(offset) + " is beyond the vocabulary of " +
                  std::to_string(vocab_size_) + " tokens; the data is read as " +
                  std::string(name_of(encoding_)) + " and may be of another encoding or tokenizer");
}

void TokenData::check_all() const {
  std::array<std::int64_t, kPieceBytes> tokens;
  for (std::uint64_t begin = 0; begin < size_; begin += tokens.size()) {
    read(begin, std::span(tokens).first(std::min<std::uint64_t>(tokens.size(), size_ - begin)));
  }
}

}  // namespace strata::formats
