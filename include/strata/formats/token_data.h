#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace strata::formats {

class RegularFile;

/// How a file holds its tokens. kBytes is text, a byte is a token.
enum class TokenEncoding : std::uint8_t {
  kBytes,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kInt16,
  kInt32,
  kInt64
};

[[nodiscard]] std::string_view name_of(TokenEncoding encoding);

/// A file of tokens, read in pieces at any place; memory does not depend on its length.
///
/// The content decides how a file is read, and its name (in any case) where the content does not
/// say:
///   NumPy's .npy: a one-dimensional array of (u)int16, 32 or 64 or uint8, format versions 1 to 3
///   llm.c's header (1024 bytes): magic 20240520 and version 1, uint16; 20240801 and 7, uint32
///   *.u32.bin: uint32, no header
///   *.bin: uint16, no header (nanoGPT)
///   anything else: text, a byte is a token
/// Refused by name, with what to do: archives and compressed files, Parquet, PDF, pickles, weights,
/// pictures and the like; other files of llm.c; UTF-16 and UTF-32; anything else with zero bytes or
/// many control characters that would be text; text and int64 ids named *.bin.
/// All numbers are little endian. Thread-safe once open.
class TokenData {
 public:
  /// `encoding` overrules name and content, but not a header.
  /// Throws DataError for content that is none of the above, an empty file, a length that is not a
  /// whole number of tokens, a header that disagrees with the file, or a *.bin without a header
  /// whose ids are wider to all appearances; IoError when it cannot be read; ConfigError for a
  /// vocabulary that is not positive.
  [[nodiscard]] static TokenData from_file(const std::filesystem::path& path,
                                           std::int64_t vocab_size,
                                           std::optional<TokenEncoding> encoding = std::nullopt);
  TokenData(TokenData&&) noexcept;
  TokenData& operator=(TokenData&&) noexcept;
  ~TokenData();

  /// Number of tokens.
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] TokenEncoding encoding() const { return encoding_; }
  [[nodiscard]] const std::filesystem::path& path() const;

  /// Reads `out.size()` tokens from token `begin` on.
  /// Throws DataError, naming offset, id and vocabulary, for an id beyond the vocabulary; IoError;
  /// UsageError for a range beyond the file.
  void read(std::uint64_t begin, std::span<std::int64_t> out) const;

  /// Reads the whole file once, so that a bad id, or a byte that no text has, is found now rather
  /// than in the middle of a run. Calls `before_each_piece`, which may throw.
  /// Throws as `read` and `from_file` do.
  void check_all(const std::function<void()>& before_each_piece = {}) const;

  /// The markup around the words of a text, which would be trained on with them: "JSON", "CSV",
  /// "HTML", by its name and its beginning. Empty for plain text and for token ids.
  [[nodiscard]] std::string_view markup() const;

 private:
  TokenData(std::unique_ptr<RegularFile> file, std::int64_t vocab_size, TokenEncoding encoding,
            std::uint64_t first_byte, bool taken_for_text);
  void read_bytes(std::uint64_t begin, std::span<std::byte> out) const;
  void check_vocabulary(std::span<const std::int64_t> tokens, std::uint64_t offset) const;

  std::unique_ptr<RegularFile> file_;
  std::int64_t vocab_size_;
  TokenEncoding encoding_;
  std::uint64_t first_byte_;  ///< place of the first token
  std::uint64_t size_;
  bool taken_for_text_;  ///< text by its looks; nobody has said so
};

}  // namespace strata::formats
