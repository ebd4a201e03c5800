#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "strata/formats/crc32.h"
#include "strata/formats/json.h"

/// \file
/// The manifest of a checkpoint: a directory of safetensors files and `manifest.json`, which says
/// what is in them, their sizes and their checksums.
///
///     {"manifest_crc32": "1c291ca3",
///      "format": "strata checkpoint", "version": 1, "tag": "step_00000120", "step": 120, ...,
///      "files": [{"name": "weight.safetensors", "bytes": 4096, "crc32": "89abcdef"}, ...]}
///
/// The checksum on the first line is that of all bytes behind that line.

namespace strata::formats {

inline constexpr std::string_view kManifestName = "manifest.json";

/// A file beside the manifest.
struct CheckpointFile {
  std::string name;
  Crc32 sum;  ///< length and checksum of all its bytes
  bool operator==(const CheckpointFile&) const = default;
};

/// What every checkpoint says of itself.
struct CheckpointHead {
  std::string tag;               ///< the directory's name
  std::int64_t step = 0;         ///< optimizer steps taken
  std::int64_t micro_steps = 0;  ///< micro-batches since then
  int world_size = 1;            ///< ranks that wrote it
  std::vector<CheckpointFile> files = {};
  std::map<std::string, std::string> program = {};  ///< the program's own values
};

/// The text of a manifest. `sections` are further members, JSON texts by their keys. Throws
/// UsageError for a name or value that is not UTF-8.
[[nodiscard]] std::string manifest_text(
    const CheckpointHead& head, const std::vector<std::pair<std::string, std::string>>& sections);

/// A manifest that was read: whole, and of a version that is understood. Nothing in it is trusted:
/// files have plain names, and their checksums are still to be compared.
class CheckpointManifest {
 public:
  /// Reads that of the checkpoint in `directory`. Throws IoError, and DataError, naming the file,
  /// for one that is damaged, was written by a newer version, or is none.
  [[nodiscard]] static CheckpointManifest read(const std::filesystem::path& directory);

  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  [[nodiscard]] const CheckpointHead& head() const { return head_; }
  /// A section. Throws DataError when there is none.
  [[nodiscard]] JsonValue section(std::string_view key) const { return root_.at(key); }
  /// The file `name`, or null.
  [[nodiscard]] const CheckpointFile* find(std::string_view name) const;
  /// The checksum of the manifest's own text.
  [[nodiscard]] std::uint32_t checksum() const { return checksum_; }

 private:
  CheckpointManifest(std::filesystem::path directory, JsonValue root, std::uint32_t checksum);

  std::filesystem::path directory_;
  JsonValue root_;
  std::uint32_t checksum_;
  CheckpointHead head_;
};

/// Throws DataError, naming the file and both sizes, unless every file of the manifest is there
/// with its size; IoError.
void require_files(const CheckpointManifest& manifest);
/// The checksum of bytes [begin, end) of a file, read in pieces of a MiB; `before_each_piece` may
/// be empty, and may throw to end it. Throws IoError, DataError for what is no regular file.
[[nodiscard]] Crc32 checksum_of(const std::filesystem::path& file, std::uint64_t begin,
                                std::uint64_t end,
                                const std::function<void()>& before_each_piece = {});
/// Throws DataError, naming the file, unless its checksum is `actual`.
void require_checksum(const CheckpointManifest& manifest, const CheckpointFile& file,
                      const Crc32& actual);

}  // namespace strata::formats
