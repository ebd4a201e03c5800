#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/models/llama_config.h"
#include "strata/models/micro_batch.h"
#include "strata/models/model_tiles.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"
#include "strata/zero3/unit_layout.h"

/// \file
/// Models of Llama's kind in numbers, for plans before anything is built. No LibTorch.

namespace strata::formats {
struct DsConfig;
}

namespace strata::models {

/// The units that a `Llama` of this config has, in the order in which they are made and in which
/// forward comes to them: "model.embed_tokens", the blocks "model.layers.N", "model.norm", and an
/// untied "lm_head". Behind a block come its experts, "model.layers.N.mlp.experts.E" or
/// "model.layers.N.block_sparse_moe.experts.E". With a vocabulary in tiles those of the embedding
/// and of the head take the place of these. `fp32_patterns` are those of the engine's config
/// (DsConfig::fp32_patterns). Throws ConfigError for a config that makes no model.
[[nodiscard]] std::vector<zero3::UnitLayout> unit_layouts(
    const LlamaConfig& config, const std::vector<std::string>& fp32_patterns = {},
    const ModelTiles& tiles = {});

/// What a `Llama` cuts into tiles in an engine of `engine` and these budgets: the vocabulary, never
/// blocks.
///
/// strata.tile_bytes says how large a tile's weights may be; ConfigError where a block has more.
/// Where it says nothing, nothing is cut if the device budget of `input` has room for the largest
/// unit. If not, the vocabulary is, into tiles as large as a block, or as a quarter of the budget
/// where that is more and leaves enough: then a plan that does not fit names what blocks need.
/// `input` may have units that were made before; it is the same for all ranks.
[[nodiscard]] ModelTiles tiles_of(const LlamaConfig& config, const formats::DsConfig& engine,
                                  const zero3::PlanInput& input);

/// Number of parameters; a tied weight counts once.
[[nodiscard]] std::uint64_t parameter_count(const LlamaConfig& config);

/// What a step of `micro_batches` computes, by unit, in FLOP: 2 for each matrix element and token
/// in forward, and for attention 2 for each pair of tokens and each element of all heads' queries,
/// as for one that is causal and has no window; backward is twice forward. `recompute`: blocks run
/// forward again in backward, the head does not, unless it is in tiles. Norms, rotations,
/// activations and lookups are left out. Several micro-batches go unit by unit. Of experts as many
/// have a use as tokens choose on average where all are chosen alike; these share the work.
[[nodiscard]] zero3::StepWork step_work(const LlamaConfig& config, const MicroBatch& micro_batch,
                                        std::uint64_t micro_batches, bool recompute,
                                        const ModelTiles& tiles = {});

/// The inputs of all blocks, of their experts and of the last norm, of all `micro_batches` of a
/// step: what backward needs of what recomputes.
[[nodiscard]] std::uint64_t block_input_bytes(const LlamaConfig& config,
                                              const MicroBatch& micro_batch,
                                              std::uint64_t micro_batches,
                                              std::uint64_t number_bytes);

/// An estimate of what LibTorch holds beside the tiers at the peak of a step: the inputs of all
/// blocks, what one block keeps for its backward (all of them without recomputation), the logits
/// that the loss holds at one time and the gradients of the largest unit. A block keeps, for each
/// token, of the width what its norms keep (their inputs in fp32, their values with and without the
/// weight), queries, keys and values as attention takes them, with keys and values repeated for
/// every head, and what it gives, twice, and four times the width inside the MLP. In a layer that
/// slides there is the mask of all pairs of tokens too, and where scores are capped they are of all
/// pairs and heads, three times in fp32. With experts, which count as one MLP of the width inside
/// all that a token goes through, what they take and give is kept of all blocks.
[[nodiscard]] std::uint64_t estimated_activation_bytes(const LlamaConfig& config,
                                                       const MicroBatch& micro_batch,
                                                       std::uint64_t micro_batches,
                                                       std::uint64_t number_bytes, bool recompute,
                                                       const ModelTiles& tiles = {});

}  // namespace strata::models
