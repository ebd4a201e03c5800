#include "formats/npy_header.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/quote.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kFixedBytes = 8;          ///< magic and version
constexpr std::uint64_t kHeaderBytesMax = 65536;  ///< NumPy's own are 118
constexpr std::string_view kHowToSave =
    "save it with numpy.save as a one-dimensional array of uint16 or uint32";

constexpr std::array kTypes = {
    std::pair{"|u1", TokenEncoding::kUint8},  std::pair{"<u2", TokenEncoding::kUint16},
    std::pair{"<u4", TokenEncoding::kUint32}, std::pair{"<u8", TokenEncoding::kUint64},
    std::pair{"<i2", TokenEncoding::kInt16},  std::pair{"<i4", TokenEncoding::kInt32},
    std::pair{"<i8", TokenEncoding::kInt64},
};

/// Reads the header, the text of a Python dictionary such as
/// {'descr': '<u2', 'fortran_order': False, 'shape': (3400,), }
class HeaderReader {
 public:
  HeaderReader(const RegularFile& file, std::string_view text) : file_(file), rest_(text) {}

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
    for (const auto& [name, encoding] : kTypes) {
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
                    std::string(kHowToSave));
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
      take('L');  // Python 2 wrote long numbers so
      if (!take(',') && peek() != ')') fail("has a header that is not NumPy's");
    }
  }

  const RegularFile& file_;
  std::string_view rest_;
  std::string descr_;
  std::optional<std::vector<std::uint64_t>> shape_;
};

[[noreturn]] void fail(const RegularFile& file, const std::string& what) {
  throw DataError(file.path().string() + ": is a NumPy file " + what);
}

}  // namespace

bool is_npy(const RegularFile& file) {
  std::array<char, kMagic.size()> magic{};
  if (file.size() < magic.size()) return false;
  file.read(0, std::as_writable_bytes(std::span(magic)));
  return std::string_view(magic.data(), magic.size()) == kMagic;
}

TokenLayout npy_layout(const RegularFile& file) {
  std::array<std::uint8_t, kFixedBytes + sizeof(std::uint32_t)> head{};
  if (file.size() < head.size()) fail(file, "that is cut short; make it again");
  file.read(0, std::as_writable_bytes(std::span(head)));
  const int version = head[kMagic.size()];
  if (version < 1 || version > 3) {
    fail(file, "of format version " + std::to_string(version) + "; versions 1 to 3 are read");
  }
  const std::uint64_t length_bytes = version == 1 ? sizeof(std::uint16_t) : sizeof(std::uint32_t);
  std::uint64_t length = 0;
  std::memcpy(&length, head.data() + kFixedBytes, length_bytes);
  const std::uint64_t first_byte = kFixedBytes + length_bytes + length;
  if (length > kHeaderBytesMax || first_byte > file.size()) {
    fail(file, "whose header does not fit into it; it is cut short or damaged, make it again");
  }
  std::string text(length, '\0');
  file.read(kFixedBytes + length_bytes, std::as_writable_bytes(std::span(text)));
  HeaderReader header(file, text);
  header.read();
  const TokenEncoding encoding = header.encoding();
  const std::uint64_t held = (file.size() - first_byte) / bytes_of(encoding);
  const bool whole = (file.size() - first_byte) % bytes_of(encoding) == 0;
  if (header.count() != held || !whole) {
    fail(file, "whose header says " + std::to_string(header.count()) + " tokens, and it holds " +
                   std::to_string(held) + (whole ? "" : " and a piece of one") +
                   "; it is truncated or has several arrays, make it again");
  }
  return {encoding, first_byte};
}

}  // namespace strata::formats
