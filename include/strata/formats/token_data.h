#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace strata::formats {

class RegularFile;

/// How a file holds its tokens.
enum class TokenEncoding : std::uint8_t { kBytes, kUint16, kUint32 };

[[nodiscard]] std::string_view name_of(TokenEncoding encoding);

/// A file of tokens, read in pieces at any place; memory does not depend on its length.
///
/// Which encoding, when none is given:
///   *.bin with llm.c's header (1024 bytes; magic 20240520 or 20240801): as the header says
///   *.u32.bin: uint32, no header
///   *.bin: uint16, no header (nanoGPT)
///   anything else: text, a byte is a token
/// All numbers are little endian. Thread-safe once open.
class TokenData {
 public:
  /// Throws DataError for an empty file, a length that is not a whole number of tokens, a header
  /// that disagrees with the file, or a *.bin without a header whose ids are uint32 to all
  /// appearances; IoError when it cannot be read; ConfigError for a vocabulary that is not
  /// positive.
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

  /// Reads the whole file once, so that a bad id is found now rather than in the middle of a run.
  /// Throws as `read` does.
  void check_all() const;

 private:
  TokenData(std::unique_ptr<RegularFile> file, std::int64_t vocab_size, TokenEncoding encoding,
            std::uint64_t first_byte);
  void check_vocabulary(std::span<const std::int64_t> tokens, std::uint64_t offset) const;

  std::unique_ptr<RegularFile> file_;
  std::int64_t vocab_size_;
  TokenEncoding encoding_;
  std::uint64_t first_byte_;  ///< of the first token
  std::uint64_t size_;
};

}  // namespace strata::formats
