#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "strata/formats/safetensors.h"

namespace strata::formats {

/// A model as Hugging Face publishes it: a directory with config.json and either model.safetensors
/// or model.safetensors.index.json and the files that it names.
///
/// Opening reads and checks all headers, no tensor: memory does not depend on the model's size.
/// Nothing outside of the directory is opened, whatever the index says: a file is named by a plain
/// name, and a symbolic link must end inside of the directory or, in a Hugging Face cache, in the
/// "blobs" directory of the same model.
/// Thread-safe once open.
class ModelDirectory {
 public:
  /// Throws DataError for a directory that is not such a model, or hostile; IoError.
  explicit ModelDirectory(std::filesystem::path path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// The text of config.json.
  [[nodiscard]] const std::string& config_text() const { return config_text_; }
  [[nodiscard]] std::filesystem::path config_path() const { return path_ / "config.json"; }

  /// The path of the model's file `name`; for a symbolic link, its target. nullopt when there is
  /// no regular file of this name, or only a link that leaves the model (see above).
  [[nodiscard]] std::optional<std::filesystem::path> find_file(std::string_view name) const;

  /// The names of the files with tensors, in order, and of the one that has the tensor `name`,
  /// which is there: DataError otherwise.
  [[nodiscard]] std::vector<std::string> file_names() const;
  [[nodiscard]] std::string file_name_of(std::string_view name) const;

  /// Names of all tensors, sorted.
  [[nodiscard]] std::vector<std::string> names() const;
  /// The tensor `name`, or nullptr. Its `offset` counts in its own file.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;

  /// Reads `out.size()` elements of a tensor of F32, F16 or BF16 from element `begin` on, as fp32
  /// without rounding. Memory used is bounded, whatever the length.
  /// Throws DataError for an unknown name or another dtype; IoError; UsageError for a range beyond
  /// the tensor.
  void read_f32(std::string_view name, std::uint64_t begin, std::span<float> out) const;
  /// Reads `out.size()` bytes of a tensor of any dtype from byte `offset` of it on. Throws
  /// DataError for an unknown name; IoError; UsageError for a range beyond the tensor.
  void read_bytes(std::string_view name, std::uint64_t offset, std::span<std::byte> out) const;

 private:
  struct Place {
    std::size_t file;
    const TensorInfo* tensor;
  };
  [[nodiscard]] const Place& place_of(std::string_view name) const;
  void open_single_file();
  void open_indexed_files();

  std::filesystem::path path_;
  std::string config_text_;
  std::vector<SafetensorsFile> files_;
  std::vector<std::string> file_names_;  ///< of files_, whatever links lead to
  std::map<std::string, Place, std::less<>> tensors_;
};

}  // namespace strata::formats
