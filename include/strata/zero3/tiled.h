#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "strata/zero3/engine.h"
#include "strata/zero3/row_tiles.h"

/// \file
/// Layers too large for the device, cut by rows of their weight into tiles, each a unit of its own:
/// the device holds one at a time, and what is fetched ahead (Rajbhandari et al. 2021,
/// "ZeRO-Infinity", section 5.1.3, memory-centric tiling).
///
///     auto head = strata::TiledLinear(engine, torch::nn::Linear(options),
///                                     {.name = "head", .elements_max = 16'000'000});
///     auto logits = head(x);
///
/// Names: tile 3 of layer "head" is the unit "tile_3.head", with the parameters
/// "tile_3.head.weight" and ".bias". So a pattern (of a parameter group, strata.no_decay,
/// strata.keep_fp32) that matches a parameter of the whole layer matches that of each tile.
///
/// Numbers: each element of an output, of a lookup and of a weight's gradient is the same product
/// or sum as in the whole layer; its bits are the whole layer's as far as LibTorch's products do
/// not depend on how many columns there are. The gradient of a linear layer's input is a sum over
/// tiles: in 16 bits each tile's share has a rounding of its own, they are added in fp32 and
/// rounded once (SharedInput). So with u the rounding of the format (2^-8 in bf16, 2^-11 in fp16)
/// it differs from the exact one by at most u times the sum of the shares' absolute values, plus u
/// times its own; that of the whole layer by the last term alone. States that are rounded at random
/// are so by their place in the unit, and have other bits than the whole layer's.

namespace strata {

/// How a layer is cut.
struct TileOptions {
  /// Name of the whole layer ("decoder.head").
  std::string name = {};
  /// Most elements of a tile's weight; for one row at least there is room in any tile.
  std::uint64_t elements_max = 0;
  /// Source of the initial values, as in ShardOptions. It is asked for each whole parameter once,
  /// by the whole's name; the values are in host memory until the last tile has its own.
  ParameterInitializer initializer = {};
  Recompute recompute = Recompute::kConfig;
};

/// Initializers of tiles, from that of the whole.
class TileInitializer {
 public:
  /// The dimension of the whole's parameters that is cut: the last one of a linear layer whose
  /// weight is stored as [in, out].
  enum class Cut { kFirst, kLast };
  TileInitializer(const RowTiles& tiles, ParameterInitializer whole, Cut cut = Cut::kFirst);

  /// Fills the parameters of one tile with their part of what `whole` gives. Tiles are filled in
  /// order, the first one first, each parameter once. Copies share the values.
  [[nodiscard]] ParameterInitializer of(std::int64_t tile) const;

 private:
  struct Values;
  std::shared_ptr<Values> values_;
};

namespace zero3 {

/// Some rows of a linear layer.
class LinearTile : public torch::nn::Module {
 public:
  /// `bias` may be undefined.
  LinearTile(torch::Tensor weight_rows, torch::Tensor bias_rows);
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x) const;

 private:
  torch::Tensor weight_, bias_;
};

/// Some rows of an embedding's table.
class EmbeddingTile : public torch::nn::Module {
 public:
  /// `padding_row`, counted from the first of these rows, gets no gradient; -1: none is such.
  EmbeddingTile(torch::Tensor rows, std::int64_t padding_row);
  /// The rows of the tokens, counted from the first of these rows.
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& tokens) const;
  /// x times the rows: of [..., width] to [..., rows].
  [[nodiscard]] torch::Tensor project(const torch::Tensor& x) const;

 private:
  torch::Tensor weight_;
  std::int64_t padding_row_;
};

}  // namespace zero3

/// A linear layer whose outputs are computed tile by tile.
///
/// In a UnitSequence its tiles stand side by side (add_to).
class TiledLinear {
 public:
  using Tile = Sharded<std::shared_ptr<zero3::LinearTile>>;

  /// Makes the tiles units of `engine`, in order. `layer` is not needed afterwards: move it here,
  /// so that its memory goes with it. A weight or a bias that wants no gradient is frozen. Throws
  /// UsageError for `elements_max` 0 and what Engine::shard throws; tiles made before stay.
  TiledLinear(Engine& engine, torch::nn::Linear layer, const TileOptions& options);
  /// The same without a layer in memory: options.initializer has the values. UsageError without it.
  TiledLinear(Engine& engine, const torch::nn::LinearOptions& layer, const TileOptions& options);

  /// Maps [..., in] to [..., out]. An input of another format than the run's is cast for each tile.
  [[nodiscard]] torch::Tensor operator()(const torch::Tensor& x);

  /// Appends the tiles side by side: they take the one tensor that the part before them returned,
  /// and the next part takes the pieces of the output, one for each tile, to put together along the
  /// last dimension (torch::cat(x, -1)). They cannot be the last part.
  void add_to(UnitSequence& sequence) const;

  [[nodiscard]] const RowTiles& rows() const noexcept { return rows_; }
  [[nodiscard]] std::vector<Tile>& tiles() noexcept { return tiles_; }
  [[nodiscard]] const std::vector<Tile>& tiles() const noexcept { return tiles_; }

 private:
  TiledLinear(Engine& engine, const torch::Tensor& weight, const torch::Tensor& bias,
              const TileOptions& options);

  RowTiles rows_;
  std::vector<Tile> tiles_;
};

/// An embedding whose table is looked up tile by tile: each gives the rows of the tokens that fall
/// into it. Bits of outputs and gradients are those of the whole table. Every lookup enters every
/// tile: one without a token has a gradient of zeros, as those rows of the whole table have.
class TiledEmbedding {
 public:
  using Tile = Sharded<std::shared_ptr<zero3::EmbeddingTile>>;

  /// As those of TiledLinear. UsageError also for an embedding with max_norm, scale_grad_by_freq or
  /// sparse.
  TiledEmbedding(Engine& engine, torch::nn::Embedding layer, const TileOptions& options);
  TiledEmbedding(Engine& engine, const torch::nn::EmbeddingOptions& layer,
                 const TileOptions& options);

  /// Maps tokens (int64, any shape) to [..., width]. Waits for the device, to know how many tokens
  /// each tile has.
  [[nodiscard]] torch::Tensor operator()(const torch::Tensor& tokens);

  /// The tied head: x [..., width] times the table, [..., rows].
  [[nodiscard]] torch::Tensor project(const torch::Tensor& x);

  [[nodiscard]] const RowTiles& rows() const noexcept { return rows_; }
  [[nodiscard]] std::vector<Tile>& tiles() noexcept { return tiles_; }
  [[nodiscard]] const std::vector<Tile>& tiles() const noexcept { return tiles_; }

 private:
  TiledEmbedding(Engine& engine, const torch::nn::EmbeddingOptions& layer,
                 const torch::Tensor& weight, const TileOptions& options);

  RowTiles rows_;
  Recompute recompute_;
  std::vector<Tile> tiles_;
};

/// The tile of each token (int64, any shape), flat. One that no row is for goes to the nearest
/// tile, where a lookup refuses it.
[[nodiscard]] torch::Tensor tile_numbers(const RowTiles& tiles, const torch::Tensor& tokens);

/// The tokens that fall into a tile, in order, counted from its first row. Waits for the device, to
/// know how many they are.
[[nodiscard]] torch::Tensor tokens_of_tile(const RowTiles& tiles, std::int64_t tile,
                                           const torch::Tensor& tokens);

/// The rows of all tokens, [..., width], from those of the tokens of each tile, in their order.
[[nodiscard]] torch::Tensor rows_in_order(const RowTiles& tiles, const torch::Tensor& tokens,
                                          const std::vector<torch::Tensor>& of_tiles);

}  // namespace strata
