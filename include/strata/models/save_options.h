#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "strata/formats/model_directory.h"

/// \file
/// What a Hugging Face directory is written with, beside the weights. No LibTorch.

namespace strata::models {

/// A function called again and again during a long read or write; it may throw, which ends that. An
/// initializer calls it on any thread.
using BeforeEachPiece = std::function<void()>;

/// Contents of a saved directory.
struct SaveOptions {
  /// Larger models are spread over model-NNNNN-of-NNNNN.safetensors files and an index. Not looked
  /// at where the files of a directory are kept.
  std::uint64_t file_bytes_max = 5'000'000'000;
  /// The text of the config.json that the model came with: keys that Strata does not know are kept.
  std::string original_config = {};
  /// The directory that the model came from, whose other files are copied (see copy_model_files),
  /// and whose config.json is the original one unless `original_config` is given; null: none.
  const formats::ModelDirectory* source = nullptr;
  /// The directory whose files the tensors are spread over as they are there, each in the file of
  /// its name; null: that of `source`, if there is one.
  const formats::ModelDirectory* files_of = nullptr;
  /// Called while the weights are written.
  BeforeEachPiece before_each_piece = {};
};

/// Copies a model's files other than config and weights: tokenizer, generation config, chat
/// templates, licence and whatever else lies in its directory. Left behind: weights in any format,
/// states and records of earlier trainings, the model card (README.md, which describes the model as
/// it was), hidden files, and files of more than 64 MiB. Throws IoError.
void copy_model_files(const formats::ModelDirectory& source, const std::filesystem::path& target);

}  // namespace strata::models
