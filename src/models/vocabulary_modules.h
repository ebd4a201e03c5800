#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <string>

#include "strata/zero3/row_tiles.h"

/// \file
/// The modules of a vocabulary: its tables, whole and in tiles. They have `options`' device and
/// dtype, and undefined values: on the meta device they take no memory.

namespace strata::models {

/// A matrix [rows, width]: an embedding's table or an output head, which may have a bias.
class TableImpl : public torch::nn::Module {
 public:
  TableImpl(std::int64_t rows, std::int64_t width, const torch::TensorOptions& options,
            bool has_bias = false);
  /// `padding_row` gets no gradient; -1: none is such.
  torch::Tensor forward(const torch::Tensor& row_indices, std::int64_t padding_row = -1);
  [[nodiscard]] const torch::Tensor& weight() const { return weight_; }
  [[nodiscard]] const torch::Tensor& bias() const { return bias_; }  ///< undefined: there is none

 private:
  torch::Tensor weight_, bias_;
};
TORCH_MODULE(Table);

/// Some rows of a table of the vocabulary.
class VocabularyTileImpl : public torch::nn::Module {
 public:
  /// `module`: the table's name in the whole; empty: the tile has the weight itself. A lookup of
  /// `padding_row`, a row of the whole, gives no gradient; -1: none is such.
  VocabularyTileImpl(const std::string& module, const RowTiles& tiles, std::int64_t tile,
                     std::int64_t width, const torch::TensorOptions& options,
                     std::int64_t padding_row = -1);
  /// The rows of the tokens that fall into the tile, counted from its first row.
  torch::Tensor lookup(const torch::Tensor& tokens_here);
  /// Maps [..., n_embd] to logits [..., rows].
  torch::Tensor logits(const torch::Tensor& x);
  /// tile_statistics of x [..., n_embd] and targets [...].
  torch::Tensor statistics(const torch::Tensor& x, const torch::Tensor& targets,
                           std::optional<double> soft_cap);

 private:
  RowTiles tiles_;
  std::int64_t tile_;
  std::int64_t padding_row_;  ///< of the tile; -1: none
  torch::Tensor weight_;
};
TORCH_MODULE(VocabularyTile);

}  // namespace strata::models
