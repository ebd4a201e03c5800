#include "formats/token_layout.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/file_signature.h"
#include "formats/quote.h"
#include "formats/text_check.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

constexpr std::size_t kHeadBytes = 65536;

/// The header that llm.c writes: 256 int32, three of them in use.
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

constexpr std::string_view kNpyMagic = "\x93NUMPY";
constexpr std::uint64_t kNpyFixedBytes = 8;          ///< magic and version
constexpr std::uint64_t kNpyHeaderBytesMax = 65536;  ///< NumPy's own are 118
constexpr std::string_view kHowToSaveNpy =
    "save it with numpy.save as a one-dimensional array of uint16 or uint32";

constexpr std::array kNpyTypes = {
    std::pair{"|u1", TokenEncoding::kUint8},  std::pair{"<u2", TokenEncoding::kUint16},
    std::pair{"<u4", TokenEncoding::kUint32}, std::pair{"<u8", TokenEncoding::kUint64},
    std::pair{"<i2", TokenEncoding::kInt16},  std::pair{"<i4", TokenEncoding::kInt32},
    std::pair{"<i8", TokenEncoding::kInt64},
};

/// The header of a .npy file, the text of a Python dictionary such as
/// {'descr': '<u2', 'fortran_order': False, 'shape': (3400,), }
class NpyHeader {
 public:
  NpyHeader(const RegularFile& file, std::string_view text) : file_(file), rest_(text) {}

  void read() {
    expect('{');
    while (!take('}')) {
      const std::string key = read_string();
      expect(':');
      if (key == "descr") {
        if (peek() != '\'' && peek() != '"') fail("holds records of several numbers");
        descr_ = read_string();
      } else if (key == "fortran_order") {
        if (!take_word("False") && !take_word("True")) fail("has a header that is not NumPy's");
      } else if (key == "shape") {
        read_shape();
      } else {
        fail("has a header with the unknown key " + quote(key));
      }
      if (!take(',') && peek() != '}') fail("has a header that is not NumPy's");
    }
  }

  [[nodiscard]] TokenEncoding encoding() const {
    for (const auto& [name, encoding] : kNpyTypes) {
      if (descr_ == name) return encoding;
    }
    fail("holds numbers of type " + quote(descr_) + ", and token ids are whole numbers, little " +
         "endian");
  }

  [[nodiscard]] std::uint64_t count() const {
    if (!shape_ || shape_->size() != 1) {
      std::string text;
      for (const std::uint64_t extent : shape_.value_or(std::vector<std::uint64_t>())) {
        text += (text.empty() ? "" : ", ") + std::to_string(extent);
      }
      fail("holds an array of shape (" + text + ")");
    }
    return shape_->front();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(file_.path().string() + ": is a NumPy file that " + what + "; " +
                    std::string(kHowToSaveNpy));
  }
  void skip_blanks() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n')) rest_.remove_prefix(1);
  }
  char peek() {
    skip_blanks();
    return rest_.empty() ? '\0' : rest_[0];
  }
  bool take(char c) {
    if (rest_.empty() || peek() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_word(std::string_view word) {
    skip_blanks();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail("has a header that is not NumPy's");
  }
  std::string read_string() {
    const char mark = peek();
    if (mark != '\'' && mark != '"') fail("has a header that is not NumPy's");
    const std::size_t end = rest_.find(mark, 1);
    if (end == std::string_view::npos) fail("has a header that is not NumPy's");
    std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return text;
  }
  void read_shape() {
    shape_.emplace();
    expect('(');
    while (!take(')')) {
      skip_blanks();
      std::uint64_t extent = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
      if (error != std::errc() || shape_->size() > 32) fail("has a header that is not NumPy's");
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      shape_->push_back(extent);
      take('L');  // Python 2 ended long numbers with it
      if (!take(',') && peek() != ')') fail("has a header that is not NumPy's");
    }
  }

  const RegularFile& file_;
  std::string_view rest_;
  std::string descr_;
  std::optional<std::vector<std::uint64_t>> shape_;
};

bool is_npy(const RegularFile& file) {
  std::array<char, kNpyMagic.size()> magic{};
  if (file.size() < magic.size()) return false;
  file.read(0, std::as_writable_bytes(std::span(magic)));
  return std::string_view(magic.data(), magic.size()) == kNpyMagic;
}

// A one-dimensional array of whole numbers, little endian, format versions 1 to 3; any other, and a
// file that does not hold exactly the array, is refused with what it is and how to save it.
TokenLayout npy_layout(const RegularFile& file) {
  std::array<std::uint8_t, kNpyFixedBytes + sizeof(std::uint32_t)> head{};
  if (file.size() < head.size()) fail(file, "is a NumPy file that is cut short; make it again");
  file.read(0, std::as_writable_bytes(std::span(head)));
  const int version = head[kNpyMagic.size()];
  if (version < 1 || version > 3) {
    fail(file, "is a NumPy file of format version " + std::to_string(version) +
                   "; versions 1 to 3 are read");
  }
  const std::uint64_t length_bytes = version == 1 ? sizeof(std::uint16_t) : sizeof(std::uint32_t);
  std::uint64_t length = 0;
  std::memcpy(&length, head.data() + kNpyFixedBytes, length_bytes);
  const std::uint64_t first_byte = kNpyFixedBytes + length_bytes + length;
  if (length > kNpyHeaderBytesMax || first_byte > file.size()) {
    fail(file,
         "is a NumPy file whose header does not fit into it; it is cut short or damaged, make it "
         "again");
  }
  std::string text(length, '\0');
  file.read(kNpyFixedBytes + length_bytes, std::as_writable_bytes(std::span(text)));
  NpyHeader header(file, text);
  header.read();
  const TokenEncoding encoding = header.encoding();
  const std::uint64_t held = (file.size() - first_byte) / bytes_of(encoding);
  const bool whole = (file.size() - first_byte) % bytes_of(encoding) == 0;
  if (header.count() != held || !whole) {
    fail(file, "is a NumPy file whose header says " + std::to_string(header.count()) +
                   " tokens, and it holds " + std::to_string(held) +
                   (whole ? "" : " and a piece of one") +
                   "; it is truncated or has several arrays, make it again");
  }
  return {encoding, first_byte};
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
