#include "formats/text_check.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "formats/config_scalar.h"
#include "formats/file_signature.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kIfIds =
    "if it holds token ids, write them with numpy.save, or rename it to end in .bin (uint16) or "
    ".u32.bin (uint32)";

struct Mark {
  std::string_view bytes, encoding;
};
// The marks of UTF-32 begin with those of UTF-16 or zeros.
constexpr std::array kMarks = {Mark{"\xff\xfe\0\0"sv, "UTF-32"}, Mark{"\0\0\xfe\xff"sv, "UTF-32"},
                               Mark{"\xff\xfe"sv, "UTF-16"}, Mark{"\xfe\xff"sv, "UTF-16"}};

/// Whether `c` is a control character that text does not have: not white space, a separator of
/// records, a backspace or an escape.
bool is_control(unsigned char c) { return c < 0x08 || (c > 0x0d && c < 0x1b) || c == 0x7f; }

std::string convert(std::string_view encoding) {
  return "convert it to UTF-8 (iconv -f " + std::string(encoding) + " -t UTF-8)";
}

/// The encoding of wide characters in which most bytes of Western text are zero; empty: none.
std::string_view wide_encoding(std::span<const std::byte> bytes) {
  std::array<std::size_t, 4> zeros{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == std::byte{0}) ++zeros[i % 4];
  }
  const std::size_t most = bytes.size() / 4 * 2 / 3, few = bytes.size() / 4 / 20;
  const auto are = [&](std::array<bool, 4> zero) {
    for (std::size_t i = 0; i < 4; ++i) {
      if (zero[i] ? zeros[i] <= most : zeros[i] > few) return false;
    }
    return true;
  };
  if (are({false, true, false, true})) return "UTF-16LE";
  if (are({true, false, true, false})) return "UTF-16BE";
  if (are({false, true, true, true})) return "UTF-32LE";
  if (are({true, true, true, false})) return "UTF-32BE";
  return {};
}

/// Whether all sequences are of UTF-8's form; the last one may be cut.
bool is_utf8(std::span<const std::byte> bytes) {
  int following = 0;
  for (const std::byte byte : bytes) {
    const auto c = std::to_integer<unsigned char>(byte);
    const bool continues = (c & 0xc0) == 0x80;
    if (continues != (following > 0)) return false;
    if (continues) {
      --following;
    } else if (c >= 0x80) {
      following = c < 0xc2 ? -1 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : -1;
      if (following < 0) return false;
    }
  }
  return true;
}

}  // namespace

void TextCheck::fail(const std::string& why) const { throw DataError(path_.string() + ": " + why); }

void TextCheck::look_at_beginning(std::span<const std::byte> bytes) const {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const Mark& mark : kMarks) {
    if (text.starts_with(mark.bytes)) {
      fail("begins as " + std::string(mark.encoding) + " text does; " + convert(mark.encoding));
    }
  }
  if (const auto kind = recognise_text(text)) {
    fail("is " + std::string(kind->name) + "; " + std::string(kind->remedy));
  }
  const std::string_view encoding = wide_encoding(bytes);
  if (bytes.size() >= 8 && !encoding.empty()) {
    fail("holds " + std::string(encoding) +
         " text or token ids to all appearances, and is read as "
         "bytes; " +
         convert(encoding) + "; " + std::string(kIfIds));
  }
}

void TextCheck::take(std::span<const std::byte> bytes, std::uint64_t offset) {
  if (offset == 0) look_at_beginning(bytes);
  const auto zero = std::find(bytes.begin(), bytes.end(), std::byte{0});
  if (zero != bytes.end()) {
    fail("holds a zero byte at byte " +
         std::to_string(offset + static_cast<std::uint64_t>(zero - bytes.begin())) +
         ", so it is no text; " + std::string(kIfIds) +
         "; if it is text with stray zeros, take them out (tr -d '\\000')");
  }
  bytes_ += bytes.size();
  controls_ +=
      static_cast<std::uint64_t>(std::count_if(bytes.begin(), bytes.end(), [](std::byte byte) {
        return is_control(std::to_integer<unsigned char>(byte));
      }));
  constexpr std::uint64_t kControlsMin = 4, kShare = 50;
  if (controls_ >= kControlsMin && controls_ * kShare > bytes_) {
    fail("is no text: " + std::to_string(controls_) + " of its first " + std::to_string(bytes_) +
         " bytes are control characters; " + std::string(kIfIds));
  }
}

bool looks_like_text(std::span<const std::byte> head) {
  constexpr std::size_t kOthersShare = 20;  // one byte in so many may be other Latin-1
  std::size_t others = 0;
  for (const std::byte byte : head) {
    const auto c = std::to_integer<unsigned char>(byte);
    if (is_control(c)) return false;
    if (c >= 0x80) ++others;
  }
  return others * kOthersShare < head.size() || is_utf8(head);
}

std::string_view markup_of(std::string_view head, const std::filesystem::path& path) {
  constexpr std::string_view kUtf8Mark = "\xef\xbb\xbf", kBlanks = " \t\r\n";
  if (head.starts_with(kUtf8Mark)) head.remove_prefix(kUtf8Mark.size());
  head.remove_prefix(std::min(head.find_first_not_of(kBlanks), head.size()));
  const std::string extension = lower_case(path.extension().string());
  if (extension == ".csv" || extension == ".tsv") return "CSV";
  const std::string begin = lower_case(head.substr(0, 16));
  if (begin.starts_with("<!doctype html") || begin.starts_with("<html")) return "HTML";
  if (begin.starts_with("<?xml")) return "XML";
  // An object whose first key is quoted, alone or in a list.
  std::string_view rest = head;
  for (const char open : {'[', '{'}) {
    if (rest.starts_with(open)) rest.remove_prefix(1);
    rest.remove_prefix(std::min(rest.find_first_not_of(kBlanks), rest.size()));
  }
  const bool opened = head.starts_with('{') || head.starts_with('[');
  const bool named = extension == ".json" || extension == ".jsonl" || extension == ".ndjson";
  if (named || (opened && rest.starts_with('"') && head.find("\":") != head.npos)) return "JSON";
  return {};
}

}  // namespace strata::formats
