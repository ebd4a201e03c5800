#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace strata::formats {

/// A directory that appears complete or not at all.
///
///     OutputDirectory out("runs/gpt2");
///     write(out.path() / "config.json");       // a hidden directory beside the final one
///     out.publish();                           // now it is runs/gpt2
///
/// Everything is made durable before it appears, and it appears by one rename. Without a call of
/// `publish` the destructor removes what was written; after one, even one that failed, the work is
/// kept. A killed process leaves only the hidden directory, whose name begins with
/// ".<name>.partial-".
class OutputDirectory {
 public:
  /// Makes the hidden directory, and missing parents. Throws ConfigError when `final_path` exists
  /// and is anything but an empty directory; IoError when nothing can be created there.
  explicit OutputDirectory(const std::filesystem::path& final_path);
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;
  ~OutputDirectory();

  /// Where to write: not yet the final path.
  [[nodiscard]] const std::filesystem::path& path() const { return partial_path_; }
  [[nodiscard]] const std::filesystem::path& final_path() const { return final_path_; }

  /// Throws IoError (ENOSPC) unless `bytes` more can be written there now. Call it to learn that
  /// before the work and not after it.
  void require_space(std::uint64_t bytes) const;

  /// Makes the directory appear at its final path. Throws IoError; then nothing has appeared there,
  /// and the message says where the complete directory lies.
  /// Call once, after every file in it is closed.
  void publish();

 private:
  std::filesystem::path final_path_;
  std::filesystem::path partial_path_;
  bool published_ = false;
};

/// Writes a text as a whole file, in place of one that is there. Throws IoError with the path and
/// the system's reason (a disk that is full among them); then a piece of the text may have stayed.
void write_text(const std::filesystem::path& path, std::string_view text);

}  // namespace strata::formats
