#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "strata/base/number_format.h"
#include "strata/formats/model_directory.h"
#include "strata/models/causal_lm.h"
#include "strata/models/lora.h"
#include "strata/models/save_options.h"

namespace strata::models {

/// First values of a model with adapters (with_lora), on all cores: those of `base` for the model
/// without them, and new adapters, which change nothing: A uniform within 1 / sqrt(in), as PEFT
/// begins, B zero. An adapter's values depend on `seed` and its full name only. `base` is a
/// RangedInitializer.
[[nodiscard]] ParameterInitializer with_new_adapters(const ModelConfig& config,
                                                     const ParameterInitializer& base,
                                                     std::uint64_t seed);
/// The same with the adapters of `adapter`, which must outlive it and has them all
/// (require_adapters_of).
[[nodiscard]] ParameterInitializer with_adapters_of(const AdapterDirectory& adapter,
                                                    const ParameterInitializer& base);

/// Writes the adapters of a model as PEFT's files, adapter_config.json and
/// adapter_model.safetensors, into an existing directory, in the format in which each is computed.
/// `base_model` is the name or path by which PEFT finds the base. Throws UsageError for a model
/// without adapters; DataError, naming the parameter, for a value that is not finite; IoError. Then
/// files may be left.
void write_adapter(CausalLm& model, const std::filesystem::path& directory,
                   std::string_view base_model, const BeforeEachPiece& before_each_piece = {});

/// Writes a model with an adapter merged into it, W + (alpha / rank) B A in fp32, rounded once to
/// `precision` (as write_pretrained of a checkpoint rounds), as the Hugging Face directory that the
/// base is: its names, shards and other files. Rows of a tensor pass through memory, and one A.
/// `directory` is there, and what is written may be left there when it throws: what
/// checkpoint_config, with_lora and require_adapters_of throw; DataError, naming the parameter, for
/// a value that is not finite in `precision`; IoError.
void write_merged(const formats::ModelDirectory& base, const AdapterDirectory& adapter,
                  Precision precision, const std::filesystem::path& directory,
                  const BeforeEachPiece& before_each_piece = {});

/// The format in which the files of a model have its matrices: that of the first one.
[[nodiscard]] Precision precision_of(const formats::ModelDirectory& directory);

}  // namespace strata::models
