#include "models/vocabulary_units.h"

#include "models/linear_cross_entropy.h"
#include "models/model_inputs.h"
#include "models/soft_cap.h"
#include "strata/zero3/tiled.h"

namespace strata::models {

using torch::Tensor;
using Tensors = UnitSequence::Tensors;

namespace {

/// Rows times the scale, which is rounded to their format before.
Tensor scaled_rows(const Tensor& rows, std::optional<double> scale) {
  if (!scale) return rows;
  const Tensor rounded = torch::scalar_tensor(*scale, torch::kFloat32).to(rows.scalar_type());
  return rows * rounded.item<double>();
}

Tensor rows_of(TableImpl& table, const Tensor& tokens, const VocabularyRules& rules) {
  return scaled_rows(table.forward(tokens, rules.padding_row), rules.scale);
}

Tensor logits_of(const TableImpl& table, const Tensor& x, const VocabularyRules& rules) {
  return soft_capped(torch::linear(x, table.weight(), table.bias()), rules.soft_cap);
}

Tensor loss_of(const TableImpl& table, const Tensor& x, const Tensor& targets,
               const VocabularyRules& rules, std::optional<double> divisor) {
  return linear_cross_entropy(x.flatten(0, -2), table.weight(), targets.flatten(), std::nullopt,
                              rules.soft_cap, table.bias(), divisor);
}

}  // namespace

Tensor VocabularyUnits::lookup(const Tensor& tokens) {
  if (tiles_) return scaled_rows(tiles_->lookup(tokens), rules_.scale);
  return whole_->run(
      [rules = rules_](TableImpl& m, const Tensor& t) { return rows_of(m, t, rules); },
      Recompute::kConfig, tokens);
}

Tensor VocabularyUnits::logits(const Tensor& x) {
  if (tiles_) return tiles_->logits(x);
  return whole_->run(
      [rules = rules_](TableImpl& m, const Tensor& t) { return logits_of(m, t, rules); },
      Recompute::kNever, x);
}

Tensor VocabularyUnits::loss(const Tensor& x, const Tensor& targets,
                             std::optional<double> divisor) {
  if (tiles_) return tiles_->loss(x, targets, divisor);
  return whole_->run(
      [rules = rules_, targets, divisor](TableImpl& m, const Tensor& t) {
        return loss_of(m, t, targets, rules, divisor);
      },
      Recompute::kNever, x);
}

void VocabularyUnits::add_lookup_to(UnitSequence& sequence,
                                    const std::function<void(const Tensors&)>& check) const {
  if (tiles_) {
    tiles_->add_lookup_to(sequence, check);
    sequence.add_function([tiles = tiles_->tiles(), scale = rules_.scale](
                              const Tensors& of_tiles, const Tensors& micro_batch) {
      return scaled_rows(rows_in_order(tiles, micro_batch[0], of_tiles), scale);
    });
    return;
  }
  const auto lookup = [check, rules = rules_](TableImpl& m, const Tensors& tokens_and_targets,
                                              const Tensors& /*micro_batch*/) {
    check(tokens_and_targets);
    return rows_of(m, tokens_and_targets[0], rules);
  };
  whole_->add_to(sequence, lookup, Recompute::kConfig);
}

void VocabularyUnits::add_loss_to(UnitSequence& sequence) const {
  if (tiles_) {
    tiles_->add_loss_to(sequence);
    return;
  }
  const auto loss = [rules = rules_](TableImpl& m, const Tensors& x, const Tensors& micro_batch) {
    return loss_of(m, x[0], micro_batch[1], rules, divisor_of(micro_batch));
  };
  whole_->add_to(sequence, loss, Recompute::kNever);
}

void VocabularyUnits::visit_whole(const VocabularyTable::Visitor& visit) {
  if (tiles_) {
    tiles_->visit_whole(visit);
  } else {
    whole_->visit_parameters(visit);
  }
}

void VocabularyUnits::visit_rows(const VocabularyTable::Visitor& visit) {
  if (tiles_) {
    tiles_->visit_rows(visit);
  } else {
    whole_->visit_parameters(visit);
  }
}

}  // namespace strata::models
