#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/models/gpt2_config.h"
#include "strata/models/micro_batch.h"
#include "strata/models/model_tiles.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"
#include "strata/zero3/unit_layout.h"

/// \file
/// GPT-2 in numbers, for plans before anything is built. No LibTorch.

namespace strata::formats {
struct DsConfig;
}

namespace strata::models {

using Gpt2Tiles = ModelTiles;

/// The units that a `Gpt2` of this config has, in the order in which they are made: "transformer",
/// then the blocks. With a vocabulary in tiles: those of the token embedding, "transformer" without
/// it, the blocks, and those of an untied head. A block in tiles is its norms, and then the tiles
/// of its linear layers, in the order of forward. `fp32_patterns` are those of the engine's config
/// (DsConfig::fp32_patterns). Throws ConfigError for a config that makes no model.
[[nodiscard]] std::vector<zero3::UnitLayout> unit_layouts(
    const Gpt2Config& config, const std::vector<std::string>& fp32_patterns = {},
    const Gpt2Tiles& tiles = {});

/// What a `Gpt2` cuts into tiles in an engine of `engine` and these budgets.
///
/// strata.tile_bytes says how large a tile's weights may be; a vocabulary, or a block, that takes
/// no more is whole. Where it says nothing, nothing is cut if the device budget of `input` has room
/// for the largest unit. If not, and if that is enough, it is the vocabulary alone: into tiles as
/// large as a block, or as a quarter of the budget where that is more and leaves enough. Else
/// blocks are cut too, into tiles of a quarter of the budget where that leaves enough, or as large
/// as what cannot be cut, the embedding of positions. `input` may have units that were made before;
/// it is the same for all ranks.
[[nodiscard]] Gpt2Tiles tiles_of(const Gpt2Config& config, const formats::DsConfig& engine,
                                 const zero3::PlanInput& input);

/// Number of parameters; a tied weight counts once.
[[nodiscard]] std::uint64_t parameter_count(const Gpt2Config& config);

/// What a step of `micro_batches` computes, by unit, in FLOP: 2 for each matrix element and token
/// in forward, and for attention, which is causal, 2 for each pair of tokens and each element of
/// the width; backward is twice forward (Narayanan et al. 2021, "Efficient Large-Scale Language
/// Model Training on GPU Clusters", appendix). `recompute`: blocks run forward again in backward,
/// the head does not, unless it is in tiles: then its logits are made again. A block in tiles that
/// recomputes goes through all of them again before its backward. Norms, activations and
/// lookups are left out. Several micro-batches go unit by unit, as in `strata finetune`.
[[nodiscard]] zero3::StepWork step_work(const Gpt2Config& config, const MicroBatch& micro_batch,
                                        std::uint64_t micro_batches, bool recompute,
                                        const Gpt2Tiles& tiles = {});

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
/// fp32. With a vocabulary in tiles also the rows of the tokens, and what goes into the head and
/// its gradient in fp32. Of a block in tiles, what its tiles give before it is put together and a
/// gradient in fp32 too; one that recomputes keeps all of that of all micro-batches while its own
/// backward lasts.
[[nodiscard]] std::uint64_t estimated_activation_bytes(const Gpt2Config& config,
                                                       const MicroBatch& micro_batch,
                                                       std::uint64_t micro_batches,
                                                       std::uint64_t number_bytes, bool recompute,
                                                       const Gpt2Tiles& tiles = {});

}  // namespace strata::models
