#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/gpt2/gpt2_modules.h"
#include "models/model_part.h"
#include "strata/zero3/row_tiles.h"
#include "strata/zero3/tiled.h"

namespace strata::models {

/// A linear layer of a block in tiles, each a unit: some of its outputs. GPT-2's weights are stored
/// as [in, out], so a tile has columns of the stored weight, and is a Conv1D of fewer outputs.
class LinearInTiles {
 public:
  /// `name`: of the whole layer, "transformer.h.3.mlp.c_fc". `outputs`: how they are cut. `home` is
  /// an EngineHome or, in memory, the Precision; `initialize` is asked for the whole layer.
  template <class Home>
  LinearInTiles(std::string name, std::int64_t in, const RowTiles& outputs,
                const torch::TensorOptions& options, const Home& home,
                const ParameterInitializer& initialize)
      : name_(std::move(name)), outputs_(outputs) {
    const TileInitializer initializer(outputs, initialize, TileInitializer::Cut::kLast);
    for (std::int64_t tile = 0; tile < outputs.count(); ++tile) {
      parts_.emplace_back(tile_name(tile, name_), Conv1D(in, outputs.size(tile), options), home,
                          initializer.of(tile));
    }
  }

  /// Appends the tiles side by side, and before them one that hands on x[0]: of {residual, x} they
  /// give {residual, a piece of the output from each tile}.
  void add_to(UnitSequence& sequence) const;

  /// The output, from what the tiles of add_to gave.
  [[nodiscard]] static torch::Tensor output(const UnitSequence::Tensors& residual_and_pieces);

  /// Calls visit(full name, value) for the whole's parameters, put together in host memory.
  void visit_parameters(
      const std::function<void(const std::string& name, const torch::Tensor& value)>& visit);

 private:
  std::string name_;
  RowTiles outputs_;
  std::vector<ModelPart<Conv1D>> parts_;
};

}  // namespace strata::models
