#pragma once

#include <filesystem>
#include <memory>

#include "finetune_options.h"
#include "interruption.h"
#include "run_input.h"
#include "strata/base/log.h"
#include "strata/formats/output_directory.h"
#include "strata/models/causal_lm.h"
#include "summary.h"

/// \file
/// What a run leaves behind: the directory that is published at its end.

namespace strata::tool {

/// The output as a run finds it: the config in effect, and what the model's directory has. Throws
/// what OutputDirectory throws, and IoError.
[[nodiscard]] std::unique_ptr<formats::OutputDirectory> begin_output(
    const RunInput& run, const FinetuneOptions& options);

/// Writes the model, or its adapters, into `output`. Ranks that write none (null) visit its weights
/// all the same: each is made of what all ranks hold. Throws IoError, Interrupted.
void write_model(models::CausalLm& model, const RunInput& run,
                 const formats::OutputDirectory* output, const Interruption& interruption);

/// Writes train_results.json and the model card. One that cannot be written is not worth the model:
/// it costs a warning.
void write_records(const RunInput& run, const FinetuneOptions& options, const Summary& summary,
                   const formats::OutputDirectory& output, Logger& log);

/// Copies the metrics of the run so far (metrics.jsonl is `lines`) beside its model; they stay
/// where they are, too. What cannot be copied costs a warning.
void copy_metrics(const std::filesystem::path& lines, const formats::OutputDirectory& output,
                  Logger& log);

}  // namespace strata::tool
