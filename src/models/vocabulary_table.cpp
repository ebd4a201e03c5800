#include "models/vocabulary_table.h"

#include <utility>

#include "models/loss_rows.h"
#include "models/model_inputs.h"
#include "models/soft_cap.h"
#include "models/tiled_cross_entropy.h"
#include "strata/zero3/shared_input.h"

namespace strata::models {

namespace {

using Tensors = UnitSequence::Tensors;

/// Appends parts side by side; `function_of(tile)` is what each computes.
template <class FunctionOf>
void add_side_by_side(UnitSequence& sequence, const std::vector<ModelPart<VocabularyTile>>& parts,
                      Recompute recompute, FunctionOf function_of) {
  for (std::size_t tile = 0; tile < parts.size(); ++tile) {
    auto function = function_of(static_cast<std::int64_t>(tile));
    if (tile == 0) {
      parts[tile].add_to(sequence, std::move(function), recompute);
    } else {
      parts[tile].add_beside_to(sequence, std::move(function), recompute);
    }
  }
}

}  // namespace

torch::Tensor VocabularyTable::lookup(const torch::Tensor& tokens) {
  Tensors of_tiles;
  for (std::size_t tile = 0; tile < parts_.size(); ++tile) {
    of_tiles.push_back(parts_[tile].run(
        [](VocabularyTileImpl& m, const torch::Tensor& here) { return m.lookup(here); },
        Recompute::kConfig, tokens_of_tile(tiles_, static_cast<std::int64_t>(tile), tokens)));
  }
  return rows_in_order(tiles_, tokens, of_tiles);
}

torch::Tensor VocabularyTable::logits(const torch::Tensor& x) {
  const SharedInput shared(x);
  Tensors of_tiles;
  for (ModelPart<VocabularyTile>& part : parts_) {
    of_tiles.push_back(
        part.run([](VocabularyTileImpl& m, const torch::Tensor& t) { return m.logits(t); },
                 Recompute::kNever, shared.take()));
  }
  return soft_capped(torch::cat(of_tiles, -1), soft_cap_);
}

torch::Tensor VocabularyTable::loss(const torch::Tensor& x, const torch::Tensor& targets,
                                    std::optional<double> divisor) {
  const SharedInput shared(x);
  Tensors statistics;
  for (ModelPart<VocabularyTile>& part : parts_) {
    statistics.push_back(
        part.run([cap = soft_cap_](VocabularyTileImpl& m, const torch::Tensor& t,
                                   const torch::Tensor& of) { return m.statistics(t, of, cap); },
                 Recompute::kNever, shared.take(), targets));
  }
  return loss_of_tiles(statistics, loss_divisor(targets, divisor));
}

void VocabularyTable::add_lookup_to(UnitSequence& sequence,
                                    const std::function<void(const Tensors&)>& check) const {
  add_side_by_side(sequence, parts_, Recompute::kConfig, [&](std::int64_t tile) {
    return [tiles = tiles_, tile, check](VocabularyTileImpl& m, const Tensors& x,
                                         const Tensors& /*micro_batch*/) {
      if (tile == 0) check(x);
      return m.lookup(tokens_of_tile(tiles, tile, x[0]));
    };
  });
}

void VocabularyTable::add_loss_to(UnitSequence& sequence) const {
  // What is kept of a tile until backward is a number for each row: nothing to recompute.
  add_side_by_side(sequence, parts_, Recompute::kNever, [cap = soft_cap_](std::int64_t /*tile*/) {
    return [cap](VocabularyTileImpl& m, const Tensors& x, const Tensors& micro_batch) {
      return m.statistics(x[0], micro_batch[1], cap);
    };
  });
  sequence.add_function([](const Tensors& statistics, const Tensors& micro_batch) {
    return loss_of_tiles(statistics, loss_divisor(micro_batch[1], divisor_of(micro_batch)));
  });
}

void VocabularyTable::visit_rows(const Visitor& visit) {
  for (std::size_t tile = 0; tile < parts_.size(); ++tile) {
    const std::string prefix = tile_name(static_cast<std::int64_t>(tile), "") + ".";
    parts_[tile].visit_parameters([&](const std::string& name, const torch::Tensor& rows) {
      visit(name.substr(prefix.size()), rows);
    });
  }
}

void VocabularyTable::visit_whole(const Visitor& visit) {
  torch::Tensor table;
  std::int64_t filled = 0;
  visit_rows([&](const std::string& name, const torch::Tensor& rows) {
    if (filled == 0) table = torch::empty({tiles_.rows(), rows.size(1)}, rows.options());
    table.narrow(0, filled, rows.size(0)).copy_(rows.detach());
    filled += rows.size(0);
    if (filled == tiles_.rows()) visit(name, std::exchange(table, {}));
  });
}

}  // namespace strata::models
