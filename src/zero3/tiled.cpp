#include "strata/zero3/tiled.h"

#include <limits>
#include <map>
#include <utility>

#include "strata/base/error.h"
#include "strata/zero3/shared_input.h"

namespace strata {

namespace {

/// Rows of a parameter of the whole, as a parameter of a tile.
torch::Tensor rows_of(const torch::Tensor& whole, const RowTiles& tiles, std::int64_t tile) {
  if (!whole.defined()) return {};
  return whole.detach()
      .narrow(0, tiles.begin(tile), tiles.size(tile))
      .clone()
      .set_requires_grad(whole.requires_grad());
}

/// Makes the tiles of a layer units, in order. `make(tile)` gives their modules.
template <class Tile, class Make>
std::vector<Tile> sharded_tiles(Engine& engine, const RowTiles& rows, const TileOptions& options,
                                Make make) {
  const TileInitializer initializer(rows, options.initializer);
  std::vector<Tile> tiles;
  for (std::int64_t tile = 0; tile < rows.count(); ++tile) {
    ShardOptions of_tile{.name = tile_name(tile, options.name), .recompute = options.recompute};
    if (options.initializer) of_tile.initializer = initializer.of(tile);
    tiles.push_back(engine.shard(make(tile), std::move(of_tile)));
  }
  return tiles;
}

/// What function(tile, x) gives of every tile, side by side.
template <class Tile, class Function>
torch::Tensor side_by_side(std::vector<Tile>& tiles, const torch::Tensor& x, Function function) {
  if (tiles.size() == 1) return function(tiles.front(), x);
  const SharedInput shared(x);
  std::vector<torch::Tensor> pieces;
  for (Tile& tile : tiles) pieces.push_back(function(tile, shared.take()));
  return torch::cat(pieces, -1);
}

/// A parameter without values or memory, for an initializer to fill tile by tile.
torch::Tensor unfilled(std::vector<std::int64_t> shape, const TileOptions& options) {
  if (!options.initializer) {
    throw UsageError("the tiles of layer '" + options.name +
                     "' have no values: give TileOptions::initializer, or the layer itself");
  }
  return torch::empty(shape, torch::TensorOptions(torch::kMeta).dtype(torch::kFloat32))
      .requires_grad_();
}

const torch::nn::EmbeddingOptions& supported(const torch::nn::EmbeddingOptions& options) {
  const char* const refused = options.max_norm().has_value() ? "max_norm"
                              : options.scale_grad_by_freq() ? "scale_grad_by_freq"
                              : options.sparse()             ? "sparse"
                                                             : nullptr;
  if (refused == nullptr) return options;
  throw UsageError(std::string("an embedding with ") + refused +
                   " cannot be cut into tiles; build it without");
}

/// The padding row as a tile counts it; -1 where it is in another one.
std::int64_t padding_row(const torch::nn::EmbeddingOptions& options, const RowTiles& tiles,
                         std::int64_t tile) {
  if (!options.padding_idx()) return -1;
  std::int64_t row = *options.padding_idx();
  if (row < 0) row += tiles.rows();
  row -= tiles.begin(tile);
  return row >= 0 && row < tiles.size(tile) ? row : -1;
}

}  // namespace

// ---- initial values ----------------------------------------------------------------------------

struct TileInitializer::Values {
  RowTiles tiles;
  ParameterInitializer whole;
  Cut cut;
  std::map<std::string, torch::Tensor> parameters;  // those that tiles are still filled from
};

TileInitializer::TileInitializer(const RowTiles& tiles, ParameterInitializer whole, Cut cut)
    : values_(std::make_shared<Values>(Values{tiles, std::move(whole), cut, {}})) {}

ParameterInitializer TileInitializer::of(std::int64_t tile) const {
  return [values = values_, tile](const std::string& name, torch::Tensor& value) {
    const RowTiles& tiles = values->tiles;
    const std::string whole_name = name.substr(tile_name(tile, "").size() + 1);
    if (tile == 0) {
      std::vector<std::int64_t> shape = value.sizes().vec();
      (values->cut == Cut::kFirst ? shape.front() : shape.back()) = tiles.rows();
      // Values that the initializer leaves out stay as they were given: NaN, which is refused.
      torch::Tensor whole = torch::full(shape, std::numeric_limits<float>::quiet_NaN());
      values->whole(whole_name, whole);
      values->parameters[whole_name] = whole;
    }
    const auto found = values->parameters.find(whole_name);
    if (found == values->parameters.end()) {
      throw UsageError("tile " + std::to_string(tile) + " of parameter '" + whole_name +
                       "' is filled before the first one; tiles are filled in order");
    }
    const std::int64_t dim = values->cut == Cut::kFirst ? 0 : -1;
    value.copy_(found->second.narrow(dim, tiles.begin(tile), tiles.size(tile)));
    if (tile + 1 == tiles.count()) values->parameters.erase(found);
  };
}

// ---- modules -----------------------------------------------------------------------------------

namespace zero3 {

LinearTile::LinearTile(torch::Tensor weight_rows, torch::Tensor bias_rows) {
  const bool trains = weight_rows.requires_grad();
  weight_ = register_parameter("weight", std::move(weight_rows), trains);
  if (!bias_rows.defined()) return;
  const bool bias_trains = bias_rows.requires_grad();
  bias_ = register_parameter("bias", std::move(bias_rows), bias_trains);
}

torch::Tensor LinearTile::forward(const torch::Tensor& x) const {
  return torch::linear(x, weight_, bias_);
}

EmbeddingTile::EmbeddingTile(torch::Tensor rows, std::int64_t padding_row)
    : padding_row_(padding_row) {
  const bool trains = rows.requires_grad();
  weight_ = register_parameter("weight", std::move(rows), trains);
}

torch::Tensor EmbeddingTile::forward(const torch::Tensor& tokens) const {
  return torch::embedding(weight_, tokens, padding_row_);
}

torch::Tensor EmbeddingTile::project(const torch::Tensor& x) const {
  return torch::linear(x, weight_);
}

}  // namespace zero3

// ---- layers ------------------------------------------------------------------------------------

TiledLinear::TiledLinear(Engine& engine, torch::nn::Linear layer, const TileOptions& options)
    : TiledLinear(engine, layer->weight, layer->bias, options) {}

TiledLinear::TiledLinear(Engine& engine, const torch::nn::LinearOptions& layer,
                         const TileOptions& options)
    : TiledLinear(engine, unfilled({layer.out_features(), layer.in_features()}, options),
                  layer.bias() ? unfilled({layer.out_features()}, options) : torch::Tensor(),
                  options) {}

TiledLinear::TiledLinear(Engine& engine, const torch::Tensor& weight, const torch::Tensor& bias,
                         const TileOptions& options)
    : rows_(weight.size(0), weight.size(1), options.elements_max),
      tiles_(sharded_tiles<Tile>(engine, rows_, options, [&](std::int64_t tile) {
        return std::make_shared<zero3::LinearTile>(rows_of(weight, rows_, tile),
                                                   rows_of(bias, rows_, tile));
      })) {}

torch::Tensor TiledLinear::operator()(const torch::Tensor& x) {
  return side_by_side(tiles_, x,
                      [](Tile& tile, const torch::Tensor& taken) { return tile(taken); });
}

void TiledLinear::add_to(UnitSequence& sequence) const {
  for (std::size_t tile = 0; tile < tiles_.size(); ++tile) {
    const auto forward = [](zero3::LinearTile& module, const UnitSequence::Tensors& x,
                            const UnitSequence::Tensors& /*micro_batch*/) {
      return module.forward(x.at(0));
    };
    if (tile == 0) {
      sequence.add(tiles_[tile], forward);
    } else {
      sequence.add_beside(tiles_[tile], forward);
    }
  }
}

TiledEmbedding::TiledEmbedding(Engine& engine, torch::nn::Embedding layer,
                               const TileOptions& options)
    : TiledEmbedding(engine, layer->options, layer->weight, options) {}

TiledEmbedding::TiledEmbedding(Engine& engine, const torch::nn::EmbeddingOptions& layer,
                               const TileOptions& options)
    : TiledEmbedding(engine, layer,
                     unfilled({layer.num_embeddings(), layer.embedding_dim()}, options), options) {}

TiledEmbedding::TiledEmbedding(Engine& engine, const torch::nn::EmbeddingOptions& layer,
                               const torch::Tensor& weight, const TileOptions& options)
    : rows_(weight.size(0), weight.size(1), options.elements_max),
      recompute_(options.recompute),
      tiles_(sharded_tiles<Tile>(engine, rows_, options, [&](std::int64_t tile) {
        return std::make_shared<zero3::EmbeddingTile>(rows_of(weight, rows_, tile),
                                                      padding_row(supported(layer), rows_, tile));
      })) {}

torch::Tensor TiledEmbedding::operator()(const torch::Tensor& tokens) {
  std::vector<torch::Tensor> of_tiles;
  for (std::size_t tile = 0; tile < tiles_.size(); ++tile) {
    of_tiles.push_back(
        tiles_[tile](tokens_of_tile(rows_, static_cast<std::int64_t>(tile), tokens)));
  }
  return rows_in_order(rows_, tokens, of_tiles);
}

torch::Tensor TiledEmbedding::project(const torch::Tensor& x) {
  return side_by_side(tiles_, x, [&](Tile& tile, const torch::Tensor& taken) {
    return tile.run([module = tile.module()](const auto& t) { return module->project(t); },
                    recompute_, taken);
  });
}

torch::Tensor tile_numbers(const RowTiles& tiles, const torch::Tensor& tokens) {
  return tokens.flatten().div(tiles.tile_rows(), "floor").clamp(0, tiles.count() - 1);
}

torch::Tensor tokens_of_tile(const RowTiles& tiles, std::int64_t tile,
                             const torch::Tensor& tokens) {
  const torch::Tensor is_here = tile_numbers(tiles, tokens) == tile;
  return tokens.flatten().masked_select(is_here) - tiles.begin(tile);
}

torch::Tensor rows_in_order(const RowTiles& tiles, const torch::Tensor& tokens,
                            const std::vector<torch::Tensor>& of_tiles) {
  const torch::Tensor order =
      torch::argsort(tile_numbers(tiles, tokens), /*stable=*/true, /*dim=*/0);
  const torch::Tensor rows = torch::cat(of_tiles, 0);
  std::vector<std::int64_t> shape = tokens.sizes().vec();
  shape.push_back(rows.size(-1));
  return torch::empty(rows.sizes(), rows.options()).index_copy(0, order, rows).view(shape);
}

}  // namespace strata
