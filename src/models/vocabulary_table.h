#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/model_part.h"
#include "models/vocabulary_modules.h"
#include "strata/zero3/row_tiles.h"
#include "strata/zero3/tiled.h"

namespace strata::models {

/// The name of a table of the vocabulary: of its tiles' unit in the whole, and of its module in it.
struct TableName {
  std::string unit;
  std::string module;  ///< empty: the unit is the table
};

/// A table of the vocabulary in tiles, each a unit: the embedding, the head, or both in one
/// where they are tied. What it computes is what the whole table computes (tiled.h,
/// tiled_cross_entropy.h).
class VocabularyTable {
 public:
  /// `home` is an EngineHome or, in memory, the Precision; `initialize` is asked for the whole
  /// table. A lookup of `padding_row` gives no gradient; -1: none is such. Logits are capped by
  /// `soft_cap` (soft_cap.h).
  template <class Home>
  VocabularyTable(const TableName& name, std::int64_t width, const RowTiles& tiles,
                  const torch::TensorOptions& options, const Home& home,
                  const ParameterInitializer& initialize, std::int64_t padding_row = -1,
                  std::optional<double> soft_cap = std::nullopt)
      : tiles_(tiles), soft_cap_(soft_cap) {
    const TileInitializer initializer(tiles, initialize);
    for (std::int64_t tile = 0; tile < tiles.count(); ++tile) {
      parts_.emplace_back(tile_name(tile, name.unit),
                          VocabularyTile(name.module, tiles, tile, width, options, padding_row),
                          home, initializer.of(tile));
    }
  }

  /// The rows of tokens [B, T]: [B, T, width].
  [[nodiscard]] torch::Tensor lookup(const torch::Tensor& tokens);
  /// Maps [..., width] to logits [..., vocab_size].
  [[nodiscard]] torch::Tensor logits(const torch::Tensor& x);
  /// The mean cross entropy (fp32 scalar) of logits(x) against targets [...], as
  /// linear_cross_entropy has it.
  [[nodiscard]] torch::Tensor loss(const torch::Tensor& x, const torch::Tensor& targets,
                                   std::optional<double> divisor);

  [[nodiscard]] const RowTiles& tiles() const noexcept { return tiles_; }

  /// Appends the tiles side by side: of {tokens, ...} they give the rows of their tokens, which
  /// rows_in_order puts together.
  /// `check(x)` is called with what they take, before the first one.
  void add_lookup_to(UnitSequence& sequence,
                     const std::function<void(const UnitSequence::Tensors&)>& check) const;
  /// Appends the tiles side by side, and the loss: of {x} and the micro-batch {tokens, targets,
  /// ...}.
  void add_loss_to(UnitSequence& sequence) const;

  /// A function that is shown the table by its full name.
  using Visitor = std::function<void(const std::string& name, const torch::Tensor& value)>;
  /// Calls it with the rows of each tile, in order.
  void visit_rows(const Visitor& visit);
  /// Calls it with the whole table, put together.
  void visit_whole(const Visitor& visit);

 private:
  RowTiles tiles_;
  std::optional<double> soft_cap_;
  std::vector<ModelPart<VocabularyTile>> parts_;
};

}  // namespace strata::models
