#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strata/models/gpt2_config.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/row_tiles.h"
#include "strata/zero3/step_model.h"
#include "strata/zero3/unit_layout.h"

/// \file
/// GPT-2 in numbers, for plans before anything is built. No LibTorch.

namespace strata::formats {
struct DsConfig;
}

namespace strata::models {

/// The units that a `Gpt2` of this config has, in the order in which they are made: "transformer",
/// then the blocks. With a vocabulary in `tiles`: those of the token embedding, "transformer"
/// without it, the blocks, and those of an untied head. `fp32_patterns` are those of the engine's
/// config (DsConfig::fp32_patterns). Throws ConfigError for a config that makes no model.
[[nodiscard]] std::vector<zero3::UnitLayout> unit_layouts(
    const Gpt2Config& config, const std::vector<std::string>& fp32_patterns = {},
    const std::optional<RowTiles>& tiles = std::nullopt);

/// How a `Gpt2` cuts its vocabulary in an engine of `engine` and these budgets; nullopt: it does
/// not.
///
/// strata.tile_bytes says how large a tile's weights may be; a vocabulary that takes no more is
/// whole. Where it says nothing, a vocabulary is cut if the device budget of `input` has no room
/// for the unit "transformer" and could do without: into tiles as large as the largest of the other
/// units, or as a quarter of the budget where that is more and leaves enough. `input` may have
/// units that were made before; it is the same for all ranks.
[[nodiscard]] std::optional<RowTiles> vocabulary_tiles(const Gpt2Config& config,
                                                       const formats::DsConfig& engine,
                                                       const zero3::PlanInput& input);

/// Number of parameters; a tied weight counts once.
[[nodiscard]] std::uint64_t parameter_count(const Gpt2Config& config);

/// One micro-batch of a rank.
struct MicroBatch {
  std::int64_t sequences = 1;
  std::int64_t length = 1;  ///< tokens of a sequence
  [[nodiscard]] double tokens() const {
    return static_cast<double>(sequences) * static_cast<double>(length);
  }
};

/// What a step of `micro_batches` computes, by unit, in FLOP: 2 for each matrix element and token
/// in forward, and for attention, which is causal, 2 for each pair of tokens and each element of
/// the width; backward is twice forward (Narayanan et al. 2021, "Efficient Large-Scale Language
/// Model Training on GPU Clusters", appendix). `recompute`: blocks run forward again in backward,
/// the head does not, unless it is in tiles: then its logits are made again. Norms, activations and
/// lookups are left out. Several micro-batches go unit by unit, as in `strata finetune`.
[[nodiscard]] zero3::StepWork step_work(const Gpt2Config& config, const MicroBatch& micro_batch,
                                        std::uint64_t micro_batches, bool recompute,
                                        const std::optional<RowTiles>& tiles = std::nullopt);

/// The inputs of all blocks, of all `micro_batches` of a step: what backward needs of blocks that
/// recompute.
[[nodiscard]] std::uint64_t block_input_bytes(const Gpt2Config& config,
                                              const MicroBatch& micro_batch,
                                              std::uint64_t micro_batches,
                                              std::uint64_t number_bytes);

/// An estimate of what LibTorch holds beside the tiers at the peak of a step: the inputs of all
/// blocks, what one block keeps for its backward (all of them without recomputation: 34 bytes for
/// each token and element of the width in 16 bits; Korthikanti et al. 2022, "Reducing Activation
/// Recomputation in Large Transformer Models", section 4, whose attention matrix is not kept), the
/// logits that the loss holds at one time and the gradients of the largest unit. What blocks keep
/// is kept of all `micro_batches` of a step, as they go unit by unit, and several are summed up in
/// fp32. With a vocabulary in `tiles` also the rows of the tokens, and what goes into the head and
/// its gradient in fp32.
[[nodiscard]] std::uint64_t estimated_activation_bytes(
    const Gpt2Config& config, const MicroBatch& micro_batch, std::uint64_t micro_batches,
    std::uint64_t number_bytes, bool recompute,
    const std::optional<RowTiles>& tiles = std::nullopt);

}  // namespace strata::models
