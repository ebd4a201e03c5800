#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "strata/formats/model_directory.h"
#include "strata/models/gpt2.h"

namespace strata::models {

/// Called again and again while something long is read or written; may throw, which ends it.
using BeforeEachPiece = std::function<void()>;

/// The config of the model that a Hugging Face directory holds. That is what its config.json says,
/// except that a head which the files hold beside an embedding with other numbers is a head of its
/// own even where config.json ties it, as for transformers: no trained number is dropped.
/// Throws ConfigError (see Gpt2Config::from_json), DataError for two tensors that are one parameter
/// and for an adapter that is not merged into the weights, IoError.
[[nodiscard]] Gpt2Config checkpoint_config(const formats::ModelDirectory& directory,
                                           const BeforeEachPiece& before_each_piece = {});

/// Reads parameters from a Hugging Face directory, one at a time, straight from its files.
///
/// Everything is checked here, before anything is built: DataError says which tensors are missing,
/// unexpected or of another shape. Accepted: names with and without the "transformer." prefix, and
/// with what wrappers and a common prefix put into all of them ("_orig_mod.", "module."); a tied
/// head that is stored as well as, or in the place of, the embedding. Passed over is only what no
/// number of the model depends on: the mask buffers that old files carry.
/// `directory` must outlive the initializer. The initializer throws DataError and IoError.
[[nodiscard]] ParameterInitializer checkpoint_initializer(
    const Gpt2Config& config, const formats::ModelDirectory& directory,
    const BeforeEachPiece& before_each_piece = {});

/// What goes into a saved directory.
struct SaveOptions {
  /// Above it, the tensors are spread over model-NNNNN-of-NNNNN.safetensors files and an index.
  std::uint64_t file_bytes_max = 5'000'000'000;
  /// The text of the config.json that the model came with: what Strata does not know of it is kept.
  std::string original_config = {};
  /// The directory that the model came from, whose other files are copied (see copy_model_files),
  /// and whose config.json is the original one unless `original_config` is given; null: none.
  const formats::ModelDirectory* source = nullptr;
  /// While the weights are written.
  BeforeEachPiece before_each_piece = {};
};

/// Writes a Hugging Face directory that `AutoModelForCausalLM.from_pretrained` loads: the compute
/// weights (fp32, bf16 or fp16) as safetensors, and config.json. At most one unit is in memory at a
/// time. Nothing appears under `directory` before everything is written. Throws IoError; DataError,
/// naming the parameter, for a weight that is not finite; ConfigError when `directory` exists and
/// is not empty.
void save_pretrained(Gpt2& model, const std::filesystem::path& directory,
                     const SaveOptions& options = {});

/// Writes the same files into a directory that exists, beside what the caller puts there: for one
/// that publishes it itself (see formats::OutputDirectory). Throws as above; then files may be
/// left.
void write_pretrained(Gpt2& model, const std::filesystem::path& directory,
                      const SaveOptions& options = {});

/// Copies what belongs to a model beside config and weights: tokenizer, generation config, chat
/// templates, licence and whatever else lies in its directory. Left behind: weights in any format,
/// states and records of earlier trainings, the model card (README.md, which describes the model as
/// it was), hidden files, and files of more than 64 MiB. Throws IoError.
void copy_model_files(const formats::ModelDirectory& source, const std::filesystem::path& target);

}  // namespace strata::models
