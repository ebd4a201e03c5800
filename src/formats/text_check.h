#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace strata::formats {

/// Looks at the bytes of a file, from the first to the last, whether they are text: in UTF-8 or an
/// encoding of single bytes, where a byte is never zero and hardly ever a control character.
class TextCheck {
 public:
  explicit TextCheck(std::filesystem::path path) : path_(std::move(path)) {}

  /// The next bytes, which begin at byte `offset` of the file. Throws DataError, saying what the
  /// file seems to hold and what to do, at the first byte that shows that it is no text.
  void take(std::span<const std::byte> bytes, std::uint64_t offset);

 private:
  void look_at_beginning(std::span<const std::byte> bytes) const;
  [[noreturn]] void fail(const std::string& why) const;

  std::filesystem::path path_;
  std::uint64_t controls_ = 0, bytes_ = 0;
};

/// Whether the beginning of a file is text without a doubt, whatever its name: UTF-8, or mostly
/// ASCII, and not a single byte that text does not have.
[[nodiscard]] bool looks_like_text(std::span<const std::byte> head);

/// The markup of a text that begins with `head`: "JSON", "CSV", "HTML"; empty for plain text.
[[nodiscard]] std::string_view markup_of(std::string_view head, const std::filesystem::path& path);

}  // namespace strata::formats
