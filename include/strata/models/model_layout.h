#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/models/micro_batch.h"
#include "strata/models/model_config.h"
#include "strata/models/model_tiles.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"
#include "strata/zero3/unit_layout.h"

/// \file
/// A model of any family in numbers, for plans before anything is built. No LibTorch. Each function
/// answers as that of the config's family (gpt2_layout.h, llama_layout.h,
/// neox_layout.h).

namespace strata::formats {
struct DsConfig;
}

namespace strata::models {

/// The units that the model has, in the order in which they are made. `fp32_patterns` are those of
/// the engine's config (DsConfig::fp32_patterns). Throws ConfigError for a config that makes no
/// model.
[[nodiscard]] std::vector<zero3::UnitLayout> unit_layouts(
    const ModelConfig& config, const std::vector<std::string>& fp32_patterns = {},
    const ModelTiles& tiles = {});

/// The units that the model has in an engine of `engine`, those that "strata.freeze" matches
/// frozen.
[[nodiscard]] std::vector<zero3::UnitLayout> units_in_engine(const ModelConfig& config,
                                                             const formats::DsConfig& engine,
                                                             const ModelTiles& tiles);

/// What the model cuts into tiles in an engine of `engine` and the budgets of `input`, which may
/// have units that were made before; it is the same for all ranks. Throws ConfigError for a
/// strata.tile_bytes that the family cannot keep to.
[[nodiscard]] ModelTiles tiles_of(const ModelConfig& config, const formats::DsConfig& engine,
                                  const zero3::PlanInput& input);

/// Number of parameters; a tied weight counts once.
[[nodiscard]] std::uint64_t parameter_count(const ModelConfig& config);

/// What a step of `micro_batches` computes, by unit, in FLOP; backward is twice forward. Several
/// micro-batches go unit by unit.
[[nodiscard]] zero3::StepWork step_work(const ModelConfig& config, const MicroBatch& micro_batch,
                                        std::uint64_t micro_batches, bool recompute,
                                        const ModelTiles& tiles = {});

/// The inputs of all blocks, of all `micro_batches` of a step: what backward needs of blocks that
/// recompute.
[[nodiscard]] std::uint64_t block_input_bytes(const ModelConfig& config,
                                              const MicroBatch& micro_batch,
                                              std::uint64_t micro_batches,
                                              std::uint64_t number_bytes);

/// An estimate of what LibTorch holds beside the tiers at the peak of a step.
[[nodiscard]] std::uint64_t estimated_activation_bytes(const ModelConfig& config,
                                                       const MicroBatch& micro_batch,
                                                       std::uint64_t micro_batches,
                                                       std::uint64_t number_bytes, bool recompute,
                                                       const ModelTiles& tiles = {});

}  // namespace strata::models
