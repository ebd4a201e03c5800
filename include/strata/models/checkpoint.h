#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "strata/formats/model_directory.h"
#include "strata/models/causal_lm.h"
#include "strata/models/model_config.h"

namespace strata::models {

/// A function called again and again during a long read or write; it may throw, which ends that. An
/// initializer calls it on any thread.
using BeforeEachPiece = std::function<void()>;

/// The config of the model that a Hugging Face directory holds: what its config.json says, with one
/// exception. A head that the files hold beside an embedding with other numbers is a head of its
/// own even where config.json ties it, as in transformers: no trained number is dropped.
/// Throws ConfigError (see ModelConfig::from_json), DataError for two tensors that are one
/// parameter and for an adapter that is not merged into the weights, IoError.
[[nodiscard]] ModelConfig checkpoint_config(const formats::ModelDirectory& directory,
                                            const BeforeEachPiece& before_each_piece = {});

/// Reads parameters from a Hugging Face directory, straight from its files, on all cores (a
/// RangedInitializer).
///
/// Everything is checked here, before anything is built: DataError says which tensors are missing,
/// unexpected or of another shape. Accepted: names with and without the family's prefix
/// ("transformer.", "model."), and with the parts that wrappers or a common prefix add to all of
/// them ("_orig_mod.", "module."); a tied head that is stored beside, or in place of, the
/// embedding. The only tensors skipped are buffers of old files (GPT-2's masks, the frequencies of
/// rotary embeddings), which follow from the config. `directory` must outlive the initializer. The
/// initializer throws DataError and IoError.
[[nodiscard]] ParameterInitializer checkpoint_initializer(
    const ModelConfig& config, const formats::ModelDirectory& directory,
    const BeforeEachPiece& before_each_piece = {});

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

/// Writes a Hugging Face directory that `AutoModelForCausalLM.from_pretrained` loads: the compute
/// weights (fp32, bf16 or fp16) as safetensors, and config.json. At most one unit is in memory at a
/// time. Nothing appears under `directory` before everything is written. Throws IoError; DataError,
/// naming the parameter, for a weight that is not finite; ConfigError when `directory` exists and
/// is not empty.
void save_pretrained(CausalLm& model, const std::filesystem::path& directory,
                     const SaveOptions& options = {});

/// Writes the same files into an existing directory, beside those that the caller puts there: for a
/// caller that publishes it (see formats::OutputDirectory). Throws as save_pretrained; then files
/// may be left.
void write_pretrained(CausalLm& model, const std::filesystem::path& directory,
                      const SaveOptions& options = {});

/// Copies a model's files other than config and weights: tokenizer, generation config, chat
/// templates, licence and whatever else lies in its directory. Left behind: weights in any format,
/// states and records of earlier trainings, the model card (README.md, which describes the model as
/// it was), hidden files, and files of more than 64 MiB. Throws IoError.
void copy_model_files(const formats::ModelDirectory& source, const std::filesystem::path& target);

}  // namespace strata::models
