#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/model_part.h"
#include "models/vocabulary_modules.h"
#include "models/vocabulary_table.h"
#include "strata/zero3/row_tiles.h"
#include "strata/zero3/unit_sequence.h"

namespace strata::models {

/// What a family does with its vocabulary.
struct VocabularyRules {
  std::int64_t padding_row = -1;                  ///< whose lookup gives no gradient; -1: none
  std::optional<double> scale = std::nullopt;     ///< of rows that are looked up
  std::optional<double> soft_cap = std::nullopt;  ///< of logits (soft_cap.h)
};

/// A table of the vocabulary that is a unit, or several, tiles of it: the embedding, the head, or
/// both in one where they are tied.
class VocabularyUnits {
 public:
  /// `home` is an EngineHome or, in memory, the Precision. A head may have a bias where it is
  /// whole.
  template <class Home>
  VocabularyUnits(std::string_view unit, std::int64_t rows, std::int64_t width, bool has_bias,
                  const VocabularyRules& rules, const std::optional<RowTiles>& tiles,
                  const torch::TensorOptions& options, const Home& home,
                  const ParameterInitializer& initialize)
      : rules_(rules) {
    if (tiles) {
      tiles_.emplace(TableName{std::string(unit), ""}, width, *tiles, options, home, initialize,
                     rules.padding_row, rules.soft_cap);
    } else {
      whole_.emplace(std::string(unit), Table(rows, width, options, has_bias), home, initialize);
    }
  }

  /// The rows of tokens [B, T]: [B, T, width].
  torch::Tensor lookup(const torch::Tensor& tokens);
  /// Maps [..., width] to logits [..., vocab_size]. Its backward comes at once.
  torch::Tensor logits(const torch::Tensor& x);
  torch::Tensor loss(const torch::Tensor& x, const torch::Tensor& targets,
                     std::optional<double> divisor);

  /// Appends the lookup; `check(x)` is called with what it takes, before.
  void add_lookup_to(UnitSequence& sequence,
                     const std::function<void(const UnitSequence::Tensors&)>& check) const;
  void add_loss_to(UnitSequence& sequence) const;

  void visit_whole(const VocabularyTable::Visitor& visit);
  void visit_rows(const VocabularyTable::Visitor& visit);

  // Of one that is whole:
  [[nodiscard]] std::vector<torch::Tensor> parameters() const {
    return whole_->module().parameters();
  }
  void freeze_whole() const { freeze(whole_->module(), /*adapters_too=*/false); }

 private:
  VocabularyRules rules_;
  std::optional<ModelPart<Table>> whole_;  ///< or
  std::optional<VocabularyTable> tiles_;
};

}  // namespace strata::models
