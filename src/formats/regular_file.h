#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace strata::formats {

/// A regular file open for reading at any place. Never blocks on a FIFO, never touches a device.
/// Thread-safe.
class RegularFile {
 public:
  /// Treatment of a path whose last part is a symbolic link.
  enum class Links { kFollow, kRefuse };

  /// Throws IoError when it cannot be opened; DataError when it is not a regular file.
  RegularFile(std::filesystem::path path, Links links);
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;
  ~RegularFile();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// The file's size when it was opened.
  [[nodiscard]] std::uint64_t size() const { return size_; }

  /// Fills `out` from byte `offset` on. Throws IoError, also when the file has become shorter.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// The whole text of a file. Throws what RegularFile throws, and DataError beyond `bytes_max`.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path,
                                         RegularFile::Links links, std::uint64_t bytes_max);

}  // namespace strata::formats
