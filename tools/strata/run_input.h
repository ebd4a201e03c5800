#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "batch_sampler.h"
#include "dataset.h"
#include "finetune_options.h"
#include "interruption.h"
#include "model_source.h"
#include "run_ranks.h"
#include "strata/base/log.h"
#include "strata/base/machine_memory.h"
#include "strata/formats/ds_config.h"

namespace strata::tool {

/// All parts that a run is made from, checked.
struct RunInput {
  formats::DsConfig config;
  ModelSource model;
  std::int64_t seq_len;
  Dataset data;
  BatchSampler training;
  std::optional<std::uint64_t> epochs;  ///< behind which nothing bears loss
  std::int64_t steps;
};

/// Opens all that the options name. Throws ConfigError, DataError, IoError, Interrupted.
[[nodiscard]] RunInput open_input(const FinetuneOptions& options, const RunRanks& ranks,
                                  const Interruption& interruption, Logger& log);

/// The sequences to train on, `rows` in a batch, in their order.
[[nodiscard]] BatchSampler training_sampler(const FinetuneOptions& options,
                                            const formats::DsConfig& config, const Dataset& data,
                                            std::int64_t seq_len, std::int64_t rows);

/// Settles what the config leaves open: whether activations are recomputed, and the room for them.
void settle_activations(RunInput& run, const HostMemoryBound& memory, Logger& log);

/// Makes the plan and shows it. Throws ConfigError for a budget that is too small and for patterns
/// that match nothing, and for a plan beyond the machine's memory or its disks. The engine makes
/// the same plan again once it is built; here it costs nothing when it fails.
void check_plan(const RunInput& run, const RunRanks& ranks, const HostMemoryBound& memory,
                const std::filesystem::path& output, Logger& log);

/// Bytes of what is written in the end, at most.
[[nodiscard]] std::uint64_t output_bytes(const RunInput& run);

/// Such as "20 steps of 8 sequences of 32 tokens".
[[nodiscard]] std::string steps_text(const RunInput& run);

// What a person should know before it begins:
void log_run(const RunInput& run, const RunRanks& ranks, Logger& log);
void log_notes(const formats::DsConfig& config, Logger& log);

}  // namespace strata::tool
