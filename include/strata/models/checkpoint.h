#pragma once

#include <filesystem>

#include "strata/formats/model_directory.h"
#include "strata/models/causal_lm.h"
#include "strata/models/model_config.h"
#include "strata/models/save_options.h"

namespace strata::models {

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

}  // namespace strata::models
