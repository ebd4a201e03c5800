#include "models/vocabulary_modules.h"

#include "models/tiled_cross_entropy.h"

namespace strata::models {

TableImpl::TableImpl(std::int64_t rows, std::int64_t width, const torch::TensorOptions& options,
                     bool has_bias)
    : weight_(register_parameter("weight", torch::empty({rows, width}, options))) {
  if (has_bias) bias_ = register_parameter("bias", torch::empty({rows}, options));
}

torch::Tensor TableImpl::forward(const torch::Tensor& row_indices, std::int64_t padding_row) {
  return torch::embedding(weight_, row_indices, padding_row);
}

namespace {

/// A row of the whole, counted from the first one of a tile; -1: it is none of the tile's.
std::int64_t row_of_tile(const RowTiles& tiles, std::int64_t tile, std::int64_t row) {
  const std::int64_t here = row - tiles.begin(tile);
  return here >= 0 && here < tiles.size(tile) ? here : -1;
}

}  // namespace

VocabularyTileImpl::VocabularyTileImpl(const std::string& module, const RowTiles& tiles,
                                       std::int64_t tile, std::int64_t width,
                                       const torch::TensorOptions& options,
                                       std::int64_t padding_row)
    : tiles_(tiles),
      tile_(tile),
      padding_row_(row_of_tile(tiles, tile, padding_row)),
      weight_(module.empty()
                  ? register_parameter("weight", torch::empty({tiles.size(tile), width}, options))
                  : register_module(module, Table(tiles.size(tile), width, options))->weight()) {}

torch::Tensor VocabularyTileImpl::lookup(const torch::Tensor& tokens_here) {
  return torch::embedding(weight_, tokens_here, padding_row_);
}

torch::Tensor VocabularyTileImpl::logits(const torch::Tensor& x) {
  return torch::linear(x, weight_);
}

torch::Tensor VocabularyTileImpl::statistics(const torch::Tensor& x, const torch::Tensor& targets,
                                             std::optional<double> soft_cap) {
  return tile_statistics(x.flatten(0, -2), weight_, targets.flatten(), tiles_, tile_, std::nullopt,
                         soft_cap);
}

}  // namespace strata::models
