#include "formats/token_layout.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/file_signature.h"
#include "formats/npy_header.h"
#include "formats/text_check.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

constexpr std::size_t kHeadBytes = 65536;

/// The header that llm.c writes: 256 int32, of which three say something.
struct LlmcHeader {
  static constexpr std::uint64_t kBytes = 1024;
  static constexpr std::int32_t kMagicUint16 = 20240520;
  static constexpr std::int32_t kMagicUint32 = 20240801;

  std::int32_t magic, version, tokens;

  /// Its other files have magic numbers that are dates of its making, too: HellaSwag 20240522,
  /// weights 20240326, states 20240327, tokenizers 20240328.
  [[nodiscard]] bool is_llmc() const {
    const std::int32_t year = magic / 10000, month = magic / 100 % 100, day = magic % 100;
    return (year == 2024 || year == 2025) && month >= 1 && month <= 12 && day >= 1 && day <= 31 &&
           version >= 0 && version < 256;
  }
  [[nodiscard]] bool is_uint16() const { return magic == kMagicUint16 && version == 1; }
  [[nodiscard]] bool is_uint32() const { return magic == kMagicUint32 && version == 7; }
};

std::vector<std::byte> read_head(const RegularFile& file) {
  std::vector<std::byte> head(std::min<std::uint64_t>(file.size(), kHeadBytes));
  file.read(0, head);
  return head;
}

std::byte read_last_byte(const RegularFile& file) {
  std::byte last{};
  if (file.size() > 0) file.read(file.size() - 1, std::span(&last, 1));
  return last;
}

[[noreturn]] void fail(const RegularFile& file, const std::string& why) {
  throw DataError(file.path().string() + ": " + why);
}

std::optional<LlmcHeader> read_llmc_header(const RegularFile& file) {
  if (file.size() < sizeof(LlmcHeader)) return std::nullopt;
  LlmcHeader header{};
  file.read(0, std::as_writable_bytes(std::span(&header, 1)));
  if (!header.is_llmc()) return std::nullopt;
  return header;
}

TokenLayout llmc_layout(const RegularFile& file, const LlmcHeader& header) {
  if (!header.is_uint16() && !header.is_uint32()) {
    fail(file, "begins as an llm.c file of magic " + std::to_string(header.magic) +
                   " and version " + std::to_string(header.version) +
                   ", which holds no training tokens that are read here; those of magic 20240520 "
                   "and version 1 (uint16) and of 20240801 and 7 (uint32) are");
  }
  const auto encoding = header.is_uint16() ? TokenEncoding::kUint16 : TokenEncoding::kUint32;
  const std::uint64_t held = file.size() < LlmcHeader::kBytes
                                 ? 0
                                 : (file.size() - LlmcHeader::kBytes) / bytes_of(encoding);
  if (file.size() < LlmcHeader::kBytes || header.tokens < 0 ||
      static_cast<std::uint64_t>(header.tokens) != held) {
    fail(file, "its header says " + std::to_string(header.tokens) + " tokens, the file holds " +
                   std::to_string(held) +
                   "; it is truncated or was written in part, make it again");
  }
  return {encoding, LlmcHeader::kBytes};
}

void refuse_other_kinds(const RegularFile& file, std::span<const std::byte> head) {
  const auto kind =
      recognise_file(head.first(std::min(head.size(), kSignatureBytes)), read_last_byte(file));
  if (kind) {
    fail(file, "begins as " + std::string(kind->name) + "; " + std::string(kind->remedy));
  }
}

/// Read as another width, ids are ids in the vocabulary with a zero (or the next few numbers) after
/// each, and training on them would go on without a word.
void refuse_wider_ids(const RegularFile& file, std::span<const std::byte> head,
                      TokenEncoding encoding, std::int64_t vocab_size) {
  constexpr std::size_t kIdsMin = 32, kIdsMax = 4096;
  std::vector<std::uint32_t> ids(std::min(kIdsMax, head.size() / sizeof(std::uint32_t)));
  if (ids.size() < kIdsMin) return;
  std::memcpy(ids.data(), head.data(), ids.size() * sizeof(ids[0]));
  const auto is_zero = [](std::uint32_t id) { return id == 0; };
  if (std::all_of(ids.begin(), ids.end(), is_zero)) return;

  bool upper_halves_are_zero = true;
  for (std::size_t i = 1; i < ids.size(); i += 2) upper_halves_are_zero &= is_zero(ids[i]);
  const auto in_vocabulary = [vocab_size](std::uint32_t id) { return id < vocab_size; };
  if (!std::all_of(ids.begin(), ids.end(), in_vocabulary)) return;
  const std::string would_be =
      "would be read as " + std::string(name_of(encoding)) + ", and holds ";
  if (upper_halves_are_zero) {
    fail(file, would_be +
                   "int64 token ids to all appearances; write them with numpy.save, or as uint32 "
                   "into a file that ends in .u32.bin");
  }
  if (encoding == TokenEncoding::kUint16) {
    fail(file, would_be + "uint32 token ids to all appearances; rename it to end in .u32.bin");
  }
}

/// Pairs of letters are ids in most vocabularies.
void refuse_text_as_ids(const RegularFile& file, std::span<const std::byte> head) {
  constexpr std::size_t kBytesMin = 32;
  if (head.size() < kBytesMin || !looks_like_text(head)) return;
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (const auto kind = recognise_text(text)) {
    fail(file, "is " + std::string(kind->name) + "; " + std::string(kind->remedy));
  }
  fail(file, "is named as token ids are, and holds text; rename it to end in .txt");
}

bool ends_with(std::string_view name, std::string_view end) {
  if (name.size() < end.size()) return false;
  return std::equal(end.rbegin(), end.rend(), name.rbegin(), [](char a, char b) {
    return a == std::tolower(static_cast<unsigned char>(b));
  });
}

}  // namespace

std::uint64_t bytes_of(TokenEncoding encoding) {
  switch (encoding) {
    case TokenEncoding::kBytes:
    case TokenEncoding::kUint8: return 1;
    case TokenEncoding::kUint16:
    case TokenEncoding::kInt16: return 2;
    case TokenEncoding::kUint32:
    case TokenEncoding::kInt32: return 4;
    case TokenEncoding::kUint64:
    case TokenEncoding::kInt64: return 8;
  }
  return 1;
}

TokenLayout layout_of(const RegularFile& file, std::int64_t vocab_size,
                      std::optional<TokenEncoding> asked) {
  if (asked == TokenEncoding::kBytes) return {*asked, 0};
  std::optional<TokenLayout> written;
  if (is_npy(file)) {
    written = npy_layout(file);
  } else if (const auto header = read_llmc_header(file)) {
    written = llmc_layout(file, *header);
  }
  if (written) {
    if (asked && *asked != written->encoding) {
      fail(file, "its header says " + std::string(name_of(written->encoding)) + ", asked for was " +
                     std::string(name_of(*asked)));
    }
    return *written;
  }
  if (asked) return {*asked, 0};

  const std::vector<std::byte> head = read_head(file);
  refuse_other_kinds(file, head);
  const std::string name = file.path().filename().string();
  if (!ends_with(name, ".bin")) {
    TextCheck(file.path()).take(head, 0);
    return {TokenEncoding::kBytes, 0};
  }
  const auto encoding =
      ends_with(name, ".u32.bin") ? TokenEncoding::kUint32 : TokenEncoding::kUint16;
  refuse_text_as_ids(file, head);
  refuse_wider_ids(file, head, encoding, vocab_size);
  return {encoding, 0};
}

}  // namespace strata::formats
