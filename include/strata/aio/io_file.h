#pragma once

#include <cstdint>
#include <filesystem>

namespace strata::aio {

/// A file opened for whole-block transfers: O_DIRECT where the file system takes it, buffered
/// elsewhere.
///
/// Created with O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC and mode 0600, and unlinked at once: the
/// bytes are scratch, and nothing is left behind whatever way the process ends. Move-only; closes
/// on destruction. No transfer may be in flight then. Thread: const methods from any thread.
class IoFile {
 public:
  /// Makes an empty scratch file in `directory`, which must exist.
  /// Throws IoError (errno, directory, what to do) when it cannot be made there.
  static IoFile create_scratch(const std::filesystem::path& directory);

  IoFile(IoFile&& other) noexcept;
  IoFile& operator=(IoFile&& other) noexcept;
  ~IoFile();

  /// Grows the file to `bytes`, rounded up to `alignment()`, with every block allocated on the disk
  /// (fallocate), so that no later write can fail for want of room. A file system without fallocate
  /// is written with zeros instead. A size that the file has already changes nothing.
  /// Throws IoError: ENOSPC, EDQUOT or EFBIG with the bytes asked for and the bytes free; the file
  /// is as it was.
  void preallocate(std::uint64_t bytes);

  /// Gives the blocks beyond `bytes`, a multiple of `alignment()`, back to the file system. A size
  /// that the file does not exceed, or a file system that refuses, changes nothing. No transfer may
  /// be in flight there.
  void shrink(std::uint64_t bytes) noexcept;

  /// Room that the file system under the file has for this process; files with the same number
  /// share it. Bytes: the largest number where it does not tell.
  struct Room {
    std::uint64_t file_system = 0;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] Room room() const noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// False where O_DIRECT was refused (tmpfs before Linux 6.6, some network file systems).
  [[nodiscard]] bool direct() const noexcept { return direct_; }
  /// Offsets, lengths and addresses of transfers must be multiples of this. A power of two, at
  /// least 512: what statx reports (STATX_DIOALIGN), else what a trial transfer accepts; 512 for
  /// buffered files.
  [[nodiscard]] std::uint32_t alignment() const noexcept { return alignment_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// The directory and the name that the file had, for messages.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  IoFile() = default;
  int fd_ = -1;
  bool direct_ = false;
  std::uint32_t alignment_ = 512;
  std::uint64_t size_ = 0;
  std::filesystem::path path_;
};

}  // namespace strata::aio
