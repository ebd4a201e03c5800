#pragma once

#include <filesystem>

#include "strata/base/number_format.h"
#include "strata/models/model_config.h"
#include "strata/models/save_options.h"
#include "strata/zero3/checkpoint_values.h"

namespace strata::models {

/// Writes the weights of a checkpoint, without an engine, as the Hugging Face directory that
/// write_pretrained makes of the model: the same files, and in the run's own precision the same
/// bits. Other precisions are rounded once, from the fp32 masters: bf16 to nearest, ties away from
/// zero; fp16 to nearest, ties to even. A tensor passes through memory in pieces.
///
/// `config` is the model's; one that ties a head which the checkpoint has of its own does not tie
/// it in the output. `directory` is there, and what is written may be left there when it throws:
/// DataError, naming the tensor, for a checkpoint of another model and for values that are not
/// finite in `precision`; IoError.
void write_pretrained(const CheckpointValues& values, const ModelConfig& config,
                      Precision precision, const std::filesystem::path& directory,
                      const SaveOptions& options = {});

}  // namespace strata::models
