#include "strata/models/model_layout.h"

#include <variant>

#include "strata/formats/ds_config.h"
#include "strata/models/gpt2_layout.h"
#include "strata/models/llama_layout.h"
#include "strata/models/neox_layout.h"
#include "strata/zero3/frozen_parameters.h"

namespace strata::models {

std::vector<zero3::UnitLayout> unit_layouts(const ModelConfig& config,
                                            const std::vector<std::string>& fp32_patterns,
                                            const ModelTiles& tiles) {
  return std::visit([&](const auto& family) { return unit_layouts(family, fp32_patterns, tiles); },
                    config.family());
}

std::vector<zero3::UnitLayout> units_in_engine(const ModelConfig& config,
                                               const formats::DsConfig& engine,
                                               const ModelTiles& tiles) {
  return zero3::with_frozen(unit_layouts(config, engine.fp32_patterns(), tiles),
                            engine.strata.freeze);
}

ModelTiles tiles_of(const ModelConfig& config, const formats::DsConfig& engine,
                    const zero3::PlanInput& input) {
  return std::visit([&](const auto& family) { return tiles_of(family, engine, input); },
                    config.family());
}

std::uint64_t parameter_count(const ModelConfig& config) {
  return std::visit([](const auto& family) { return parameter_count(family); }, config.family());
}

zero3::StepWork step_work(const ModelConfig& config, const MicroBatch& micro_batch,
                          std::uint64_t micro_batches, bool recompute, const ModelTiles& tiles) {
  return std::visit(
      [&](const auto& family) {
        return step_work(family, micro_batch, micro_batches, recompute, tiles);
      },
      config.family());
}

std::uint64_t block_input_bytes(const ModelConfig& config, const MicroBatch& micro_batch,
                                std::uint64_t micro_batches, std::uint64_t number_bytes) {
  return std::visit(
      [&](const auto& family) {
        return block_input_bytes(family, micro_batch, micro_batches, number_bytes);
      },
      config.family());
}

std::uint64_t estimated_activation_bytes(const ModelConfig& config, const MicroBatch& micro_batch,
                                         std::uint64_t micro_batches, std::uint64_t number_bytes,
                                         bool recompute, const ModelTiles& tiles) {
  return std::visit(
      [&](const auto& family) {
        return estimated_activation_bytes(family, micro_batch, micro_batches, number_bytes,
                                          recompute, tiles);
      },
      config.family());
}

std::vector<std::string> describe(const ModelTiles& tiles) {
  std::vector<std::string> lines;
  if (tiles.vocabulary) {
    lines.push_back("the vocabulary of " + std::to_string(tiles.vocabulary->rows()) +
                    " tokens is cut into " + std::to_string(tiles.vocabulary->count()) +
                    " tiles of " + std::to_string(tiles.vocabulary->tile_rows()) +
                    " rows, each a unit of its own");
  }
  if (tiles.blocks) {
    const BlockTiles& of = *tiles.blocks;
    const auto count = [](const RowTiles& layer) { return std::to_string(layer.count()); };
    lines.push_back("the linear layers of each block are cut into " + std::to_string(of.count()) +
                    " tiles, each a unit of its own: " + count(of.c_attn) + " and " +
                    count(of.attn_proj) + " of attention, " + count(of.c_fc) + " and " +
                    count(of.mlp_proj) + " of the MLP");
  }
  return lines;
}

}  // namespace strata::models
