#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/models/micro_batch.h"
#include "strata/models/model_tiles.h"
#include "strata/models/neox_config.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"
#include "strata/zero3/unit_layout.h"

/// \file
/// Models of GPT-NeoX's kind in numbers, for plans before anything is built. No LibTorch.

namespace strata::formats {
struct DsConfig;
}

namespace strata::models {

/// The units, in the order in which they are made and in which forward comes to them: the embedding
/// ("transformer.wte", "gpt_neox.embed_in"), the blocks ("transformer.h.N", "gpt_neox.layers.N"),
/// the last norm ("transformer.ln_f", "gpt_neox.final_layer_norm") and an untied head ("lm_head",
/// "embed_out"). See llama_layout.h.
[[nodiscard]] std::vector<zero3::UnitLayout> unit_layouts(
    const NeoxConfig& config, const std::vector<std::string>& fp32_patterns = {},
    const ModelTiles& tiles = {});

/// What is cut into tiles, as for models of Llama's kind; of GPT-J, whose head has a bias, nothing.
[[nodiscard]] ModelTiles tiles_of(const NeoxConfig& config, const formats::DsConfig& engine,
                                  const zero3::PlanInput& input);

/// Number of parameters; a tied weight counts once.
[[nodiscard]] std::uint64_t parameter_count(const NeoxConfig& config);

/// What a step of `micro_batches` computes, by unit, in FLOP, as for models of Llama's kind.
[[nodiscard]] zero3::StepWork step_work(const NeoxConfig& config, const MicroBatch& micro_batch,
                                        std::uint64_t micro_batches, bool recompute,
                                        const ModelTiles& tiles = {});

/// The inputs of all blocks and of the last norm, of all `micro_batches` of a step: what backward
/// needs of what recomputes.
[[nodiscard]] std::uint64_t block_input_bytes(const NeoxConfig& config,
                                              const MicroBatch& micro_batch,
                                              std::uint64_t micro_batches,
                                              std::uint64_t number_bytes);

/// An estimate of what LibTorch holds beside the tiers at the peak of a step, as for models of
/// Llama's kind. A block keeps, for each token, of the width its input, what its norms give,
/// queries, keys and values, the first two also rotated, and what attention gives, twice; and twice
/// the width inside the MLP.
[[nodiscard]] std::uint64_t estimated_activation_bytes(const NeoxConfig& config,
                                                       const MicroBatch& micro_batch,
                                                       std::uint64_t micro_batches,
                                                       std::uint64_t number_bytes, bool recompute,
                                                       const ModelTiles& tiles = {});

}  // namespace strata::models
