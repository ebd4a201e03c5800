#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/formats/safetensors.h"
#include "strata/models/model_config.h"
#include "strata/models/save_options.h"

namespace strata::models {

/// A safetensors file to be written.
struct SavedFile {
  std::string name;
  std::vector<formats::TensorInfo> tensors;  ///< by their names in the file
  /// The model's names of as many of the first tensors. The others are copied from a directory.
  std::vector<std::string> own;
  std::uint64_t bytes = 0;
};

/// The files of a Hugging Face directory on their way out, whoever has the weights: config, weights
/// and index, and what a source had beside them. No LibTorch.
class PretrainedFiles {
 public:
  /// Writes config.json and the other files into `directory`, which is there. Throws IoError;
  /// ConfigError for an original config that is no JSON object, and for that of a larger model
  /// (text_part.h) without the directory that has its other tensors: they are copied from there,
  /// which is to live as long as this.
  PretrainedFiles(const ModelConfig& config, Precision precision,
                  const std::filesystem::path& directory, const SaveOptions& options);

  /// The tensors, in the order in which they are appended.
  [[nodiscard]] const std::vector<formats::TensorInfo>& tensors() const { return tensors_; }

  /// Appends the next bytes of the tensor `name`, all of it before the next one. Throws IoError.
  void append(const std::string& name, std::span<const std::byte> bytes);
  /// Rounds values once to the format of the files, in their place too, and appends them. Throws
  /// DataError for a value that is not finite then; `of`, a clause such as " with the adapter of
  /// X", follows the parameter's name in it.
  void append_rounded(const std::string& name, std::span<float> values, std::string_view of = {});

  /// Writes the index, for models of more than one file, and files that have nothing of the model.
  /// Call it when all tensors are there.
  void finish();

 private:
  struct OpenFile {
    std::filesystem::path path;
    const SavedFile* layout = nullptr;
    std::unique_ptr<formats::SafetensorsWriter> writer;  ///< from its first tensor to its last
    std::size_t next = 0;                                ///< the tensor that is written next
    std::uint64_t written = 0;                           ///< bytes of that one
  };

  /// Copies the tensors that are none of the model's, and closes the file.
  void complete(OpenFile& file) const;

  std::filesystem::path directory_;
  const formats::ModelDirectory* others_;  ///< has the tensors that are copied
  Precision precision_;
  std::vector<formats::TensorInfo> tensors_;
  std::vector<SavedFile> files_;
  std::map<std::string, std::shared_ptr<OpenFile>> by_tensor_;
  std::vector<std::byte> rounded_;
};

}  // namespace strata::models
