#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "finetune_options.h"
#include "strata/formats/ds_config.h"

namespace strata::tool {

/// Sets the budgets that `text` names ("host=4GiB,nvme=60GiB") and leaves the others as they are.
/// Throws ConfigError for an unknown or repeated tier, or a size that is none.
void apply_budget_option(std::string_view text, formats::StrataConfig& config);

/// Puts the directories of --nvme in the place of the config's, if there are any.
void apply_nvme_option(const std::vector<std::filesystem::path>& directories,
                       formats::StrataConfig& config);

/// The config file with the command line over it (budgets, directories) and the batch worked out
/// for `ranks`. Throws ConfigError; IoError when the file cannot be read.
[[nodiscard]] formats::DsConfig run_config(const FinetuneOptions& options, int ranks = 1);

/// Throws ConfigError when something is to live on NVMe and no directory is named for it, or when
/// a named one is none, cannot be written to, is missing and cannot be made, is named twice, or
/// begins with ~ or $, which no shell has expanded.
void check_nvme_directories(const formats::DsConfig& config);

/// The number of optimizer steps: --steps, else those that --epochs take, else the schedule's
/// total_num_steps, else those of one epoch. `epoch_tokens`: of an epoch of tokens without
/// sequences of their own; `epoch_rows`: sequences of an epoch, where there are some.
[[nodiscard]] std::int64_t step_count(const FinetuneOptions& options,
                                      const formats::DsConfig& config, std::uint64_t epoch_tokens,
                                      std::int64_t seq_len,
                                      std::optional<std::uint64_t> epoch_rows = std::nullopt);

/// The epochs behind which no sequence bears loss any more: those of --epochs, and one where the
/// number of steps is that of one epoch; nullopt: there is no end.
[[nodiscard]] std::optional<std::uint64_t> last_epoch(const FinetuneOptions& options,
                                                      const formats::DsConfig& config);

/// Tokens per sequence: --seq-len, else the model's context, 1024 at most.
/// Throws ConfigError when the model's context is shorter.
[[nodiscard]] std::int64_t sequence_length(const FinetuneOptions& options, std::int64_t context);

/// Throws ConfigError when a micro-batch, of which every token keeps `bytes_per_token` until
/// backward, is beyond `memory_bytes`: a slip of the pen that the system would otherwise answer by
/// killing the process.
void check_micro_batch(const formats::DsConfig& config, std::int64_t seq_len,
                       std::uint64_t bytes_per_token, std::uint64_t memory_bytes);

/// The bytes of memory of this machine.
[[nodiscard]] std::uint64_t memory_bytes();

}  // namespace strata::tool
