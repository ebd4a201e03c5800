#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// A directory of checkpoints:
///
///     run/checkpoints/
///       step_00000100/          a checkpoint: manifest.json and safetensors files
///       step_00000200/
///       latest                  the name of the newest complete one, and a line's end
///
/// A name that begins with ".strata-partial-" is of a checkpoint that is being written or removed.
/// Its process holds a lock on the directory (flock), so what another one finds there once it has
/// that lock was left by a process that is gone, and is removed. On a file system without such
/// locks two processes must not write into the same directory.

namespace strata::formats {

/// Throws ConfigError unless `tag` can name a checkpoint: a plain file name that does not begin
/// with a dot, and is not "latest".
void check_tag(std::string_view tag);

/// The tag that `latest` names; nullopt where there is no such directory, or nothing in it was
/// ever completed. Throws IoError; DataError when the text is no tag.
[[nodiscard]] std::optional<std::string> latest_tag(const std::filesystem::path& directory);

/// The tags of all that look like checkpoints there (a manifest that can be read), the one written
/// last first. Empty where there is no such directory.
[[nodiscard]] std::vector<std::string> checkpoint_tags(const std::filesystem::path& directory);

/// One checkpoint on its way into the directory. For one process; others write files into `path()`
/// meanwhile.
///
///     CheckpointOutput out("run/checkpoints", "step_00000200");
///     out.require_space(bytes);
///     ...   // files, made durable by those who write them
///     out.publish(manifest_text(...));   // now it is there, and `latest` names it
///     out.prune(3);
///
/// Killed at any moment it leaves a directory whose `latest` names a complete checkpoint, the one
/// before or this one. Without a successful `publish` the destructor removes what was written.
class CheckpointOutput {
 public:
  /// Makes the directory, takes its lock, removes what processes that are gone have left, and makes
  /// the hidden directory. Throws ConfigError (a bad tag, a directory that is none) and IoError
  /// (EWOULDBLOCK: another process is writing there).
  CheckpointOutput(const std::filesystem::path& directory, std::string_view tag);
  CheckpointOutput(const CheckpointOutput&) = delete;
  CheckpointOutput& operator=(const CheckpointOutput&) = delete;
  ~CheckpointOutput();

  /// The hidden directory of a checkpoint that is being written.
  [[nodiscard]] static std::filesystem::path partial_path(const std::filesystem::path& directory,
                                                          std::string_view tag);
  [[nodiscard]] const std::filesystem::path& path() const { return partial_; }

  /// Throws IoError (ENOSPC) unless `bytes` more can be written there now.
  void require_space(std::uint64_t bytes) const;

  /// Writes the manifest, and makes the checkpoint appear, in place of one with the same tag. All
  /// files are closed. Throws IoError; `latest` names a complete checkpoint then too, the one
  /// before unless only the last sync failed.
  void publish(std::string_view manifest);

  /// Removes all but the `keep` checkpoints that were written last; 0 keeps all. Stays clear of the
  /// one that `latest` names and of what is no checkpoint. Call after `publish`. Throws IoError.
  void prune(std::size_t keep) const;

 private:
  void name_latest() const;
  void replace() const;

  std::filesystem::path directory_;
  std::string tag_;
  std::filesystem::path partial_;
  int lock_ = -1;  // the directory, open
};

}  // namespace strata::formats
