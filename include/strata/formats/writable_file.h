#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace strata::formats {

/// A file that is written at any place: by one process from its first byte to its last, or by
/// several, each a part of it. Nothing of it is certain to last before `sync_and_close`. Closes
/// without that where it goes away. Move-only. Thread: one at a time.
class WritableFile {
 public:
  /// Makes a file, which must not exist, of no bytes. Throws IoError.
  [[nodiscard]] static WritableFile create(std::filesystem::path path);
  /// Makes one of `bytes` bytes whose blocks are taken at once, where the file system can do that:
  /// a full disk is found here, not in the middle of the work. Throws IoError (ENOSPC).
  [[nodiscard]] static WritableFile create_with_room(std::filesystem::path path,
                                                     std::uint64_t bytes);
  /// Opens one that another has made. Throws IoError.
  [[nodiscard]] static WritableFile open(std::filesystem::path path);

  WritableFile(WritableFile&& other) noexcept;
  WritableFile& operator=(WritableFile&& other) noexcept;
  ~WritableFile();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Writes all of `bytes` from byte `offset` of the file on. Throws IoError.
  void write(std::uint64_t offset, std::span<const std::byte> bytes);

  /// Makes durable what was written, and closes. Throws IoError; the file is of no use then: what
  /// the system could not write once it may have forgotten.
  void sync_and_close();

 private:
  WritableFile(std::filesystem::path path, int flags);

  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// Makes durable what a file holds, or the entries of a directory: files made or renamed in it.
/// Throws IoError.
void sync_path(const std::filesystem::path& path);

}  // namespace strata::formats
