#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "strata/formats/dtype.h"

/// \file
/// Hugging Face's safetensors: an 8-byte length, a JSON header, and the tensors' bytes without
/// gaps. https://github.com/huggingface/safetensors

namespace strata::formats {

/// A tensor of a file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape = {};  ///< empty: a scalar
  std::uint64_t offset = 0;              ///< place of its first byte in the file
  std::uint64_t bytes = 0;

  [[nodiscard]] std::uint64_t elements() const;
  /// "F32 [768, 2304]".
  [[nodiscard]] std::string description() const;
};

using SafetensorsMetadata = std::map<std::string, std::string, std::less<>>;

class RegularFile;
class WritableFile;

/// A file before a byte of it is written: who knows this can write any part of it.
struct SafetensorsLayout {
  std::string head = {};                 ///< first bytes of the file: length and header
  std::vector<TensorInfo> tensors = {};  ///< in the order given, side by side behind the head
  std::uint64_t bytes = 0;               ///< bytes of the whole file
};

/// Puts tensors side by side; their `offset` and `bytes` are worked out here. `name` begins
/// messages. Throws UsageError for duplicate names, bad shapes, and a header beyond the format's.
[[nodiscard]] SafetensorsLayout lay_out_safetensors(std::vector<TensorInfo> tensors,
                                                    const SafetensorsMetadata& metadata,
                                                    const std::string& name);

/// An open safetensors file. Nothing of it is trusted: a file is either wholly consistent (bounded
/// header, known dtypes, unique names, tensors side by side from 0 to the end of the file, sizes
/// equal to the shapes') or refused. Only the header is held in memory; the caller reads tensors in
/// pieces of any size.
/// Thread-safe once open.
class SafetensorsFile {
 public:
  /// Throws IoError (a file that cannot be opened or read) and DataError (malformed; not a regular
  /// file; a symbolic link).
  explicit SafetensorsFile(const std::filesystem::path& path);
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;
  ~SafetensorsFile();

  [[nodiscard]] const std::filesystem::path& path() const;
  /// The tensors in the order in which they lie in the file.
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return tensors_; }
  /// The header's "__metadata__".
  [[nodiscard]] const SafetensorsMetadata& metadata() const { return metadata_; }
  /// The tensor `name`, or nullptr.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;

  /// Reads `out.size()` bytes of a tensor of this file from byte `offset` of it on.
  /// Throws IoError; UsageError for a range beyond the tensor.
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const;

 private:
  std::unique_ptr<RegularFile> file_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string_view, std::size_t> index_;  ///< name -> place in tensors_
  SafetensorsMetadata metadata_;
};

/// Writes a safetensors file from first byte to last, holding none of it in memory.
///
///     SafetensorsWriter out(path, {{.name = "wte.weight", .dtype = DType::kF32, .shape = {8, 4}}},
///                           {{"format", "pt"}});
///     out.append(bytes);   // as often as needed, tensor after tensor in the order given
///     out.finish();
///
/// Put files into an OutputDirectory to have them appear only when complete.
class SafetensorsWriter {
 public:
  /// Creates `path`, which must not exist, and writes the header. `offset` and `bytes` of `tensors`
  /// are worked out here. Throws IoError; UsageError for duplicate names or bad shapes.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                    const SafetensorsMetadata& metadata = {{"format", "pt"}});
  SafetensorsWriter(SafetensorsWriter&&) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) noexcept;
  ~SafetensorsWriter();

  /// Writes the next bytes. Throws IoError; UsageError beyond the declared size.
  void append(std::span<const std::byte> bytes);

  /// Makes the file durable and closes it. Throws UsageError, naming the tensor, when bytes are
  /// missing.
  void finish();

  /// The tensors with their places in the file.
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return layout_.tensors; }

 private:
  SafetensorsLayout layout_;
  std::unique_ptr<WritableFile> file_;
  std::uint64_t position_ = 0;
};

}  // namespace strata::formats
