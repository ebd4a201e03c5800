#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/models/lora_config.h"
#include "strata/models/micro_batch.h"
#include "strata/models/model_tiles.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"
#include "strata/zero3/unit_layout.h"

/// \file
/// What plans ask of a model of blocks between an embedding and a norm with a head, each of which
/// is a unit, whatever its blocks are. No LibTorch.

namespace strata::formats {
struct DsConfig;
}

namespace strata::models {

/// The experts of blocks that have some, each a unit behind its block's.
struct ExpertsShape {
  std::int64_t count = 0, per_token = 0;
  double matrices = 0;        ///< elements of one expert's matrices
  double block_matrices = 0;  ///< of what such a block has beside them
  std::function<bool(std::int64_t block)> are_in;
  std::function<zero3::UnitLayout(std::int64_t block, std::int64_t expert,
                                  const std::vector<std::string>& fp32_patterns)>
      layout;
};

/// Such a model in numbers.
struct DecoderShape {
  std::string_view model_type;
  // Names of units.
  std::string_view embedding, norm, head;
  std::int64_t vocab_size = 0, width = 0, layers = 0;
  bool ties = false;  ///< there is no unit `head`
  std::optional<LoraConfig> lora = {};
  bool norm_has_bias = false, head_has_bias = false;
  std::function<zero3::UnitLayout(std::int64_t index,
                                  const std::vector<std::string>& fp32_patterns)>
      block;
  double block_matrices = 0;                 ///< elements of a block's matrices
  double block_queries = 0;                  ///< elements of all heads' queries of a token
  std::optional<ExpertsShape> experts = {};  ///< empty: no block has some

  /// Experts of a block.
  [[nodiscard]] std::int64_t experts_of(std::int64_t index) const {
    return experts && experts->are_in(index) ? experts->count : 0;
  }
};

/// The units, in the order in which they are made and in which forward comes to them.
[[nodiscard]] std::vector<zero3::UnitLayout> decoder_units(
    const DecoderShape& shape, const std::vector<std::string>& fp32_patterns,
    const ModelTiles& tiles);

/// What is cut into tiles: the vocabulary, never blocks; see llama_layout.h. A head with a bias is
/// not cut, nor is the embedding then.
[[nodiscard]] ModelTiles decoder_tiles(const DecoderShape& shape, const formats::DsConfig& engine,
                                       const zero3::PlanInput& input);

/// Of experts as many are used as tokens choose on average where all are chosen alike, and these
/// share the work.
[[nodiscard]] zero3::StepWork decoder_work(const DecoderShape& shape, const MicroBatch& micro_batch,
                                           std::uint64_t micro_batches, bool recompute,
                                           const ModelTiles& tiles);

/// Bytes of the inputs of all blocks and of the last norm, and of what experts take of them.
[[nodiscard]] std::uint64_t decoder_input_bytes(const DecoderShape& shape,
                                                const MicroBatch& micro_batch,
                                                std::uint64_t micro_batches,
                                                std::uint64_t number_bytes);

/// What LibTorch holds at the peak of a step where a block keeps `block_bytes` of a micro-batch for
/// its backward.
[[nodiscard]] std::uint64_t decoder_activation_bytes(const DecoderShape& shape, double block_bytes,
                                                     const MicroBatch& micro_batch,
                                                     std::uint64_t micro_batches,
                                                     std::uint64_t number_bytes, bool recompute,
                                                     const ModelTiles& tiles);

}  // namespace strata::models
