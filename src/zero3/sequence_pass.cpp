#include "zero3/sequence_pass.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "zero3/activations.h"
#include "zero3/entrance.h"
#include "zero3/unit_body.h"

namespace strata::zero3 {

namespace {

using Tensors = UnitSequence::Tensors;

/// Holds the unit of a part, if it has one, where several micro-batches come through it. One alone
/// has the entries of the ordinary loop.
class PartScope {
 public:
  PartScope(const UnitSequence::Part& part, Pass pass, std::size_t micro_batches) {
    if (!part.has_unit) return;
    unit_ = unit_of(part.unit);
    if (micro_batches > 1) held_.emplace(*unit_, pass);
  }
  /// Sends the gradients of all micro-batches home.
  void bring_gradients() {
    if (held_) held_->bring_gradients();
  }

 private:
  std::shared_ptr<Unit> unit_;
  std::optional<HeldScope> held_;
};

/// Whether a part is the first with its unit; one without a unit is not.
std::vector<bool> first_uses(const std::vector<UnitSequence::Part>& parts) {
  std::set<std::shared_ptr<Unit>> seen;
  std::vector<bool> is_first;
  for (const UnitSequence::Part& part : parts) {
    is_first.push_back(part.has_unit && seen.insert(unit_of(part.unit)).second);
  }
  return is_first;
}

/// Outputs as the next part takes them: without their graph.
Tensors as_leaves(const Tensors& outputs) {
  Tensors leaves;
  for (const torch::Tensor& output : outputs) {
    leaves.push_back(output.defined() ? output.detach().set_requires_grad(output.requires_grad())
                                      : torch::Tensor());
  }
  return leaves;
}

/// Lets go of values of which backward needs shapes and graphs alone; what else needs them keeps
/// them itself.
void release_values(Tensors& tensors) {
  for (torch::Tensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    if (tensor.requires_grad()) {
      take_values(tensor);
    } else {
      tensor.reset();
    }
  }
}

/// Where backward begins: outputs, and their gradients.
struct Roots {
  Tensors outputs, gradients;
};

Roots roots_of(const Tensors& outputs, const Tensors& leaves) {
  Roots roots;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].defined() || !outputs[i].requires_grad() || !leaves[i].grad().defined()) {
      continue;
    }
    roots.outputs.push_back(outputs[i]);
    roots.gradients.push_back(leaves[i].grad());
  }
  return roots;
}

}  // namespace

SequencePass::SequencePass(const UnitSequence& model, std::span<const Tensors> micro_batches,
                           Anchor& anchor, WhenComplete when_complete)
    : parts_(model.parts()),
      micro_batches_(micro_batches),
      anchor_(anchor),
      when_complete_(std::move(when_complete)),
      is_first_use_(first_uses(model.parts())),
      cuts_(model.parts().size() - 1) {
  for (const UnitSequence::Span& span : model.spans()) {
    const std::shared_ptr<Unit> unit = unit_of(span.unit);
    if (span.end > cuts_.size() || !wants_recomputation(*unit, span.recompute)) continue;
    reruns_.push_back({.begin = span.begin, .end = span.end, .unit = unit});
  }
}

std::size_t SequencePass::first_beside(std::size_t part) const {
  while (parts_[part].is_beside) --part;
  return part;
}

bool SequencePass::has_others_beside(std::size_t part) const {
  return parts_[part].is_beside || !is_last_beside(part);
}

bool SequencePass::is_last_beside(std::size_t part) const {
  return part + 1 == parts_.size() || !parts_[part + 1].is_beside;
}

bool SequencePass::runs_together(std::size_t part) const {
  return parts_[part].run_together && !has_others_beside(part);
}

Tensors SequencePass::inputs_of(std::size_t first, std::size_t micro_batch) const {
  if (first == 0) return micro_batches_[micro_batch];
  Tensors inputs;
  for (std::size_t part = first_beside(first - 1); part < first; ++part) {
    const Tensors& leaves = cuts_[part][micro_batch].leaves;
    inputs.insert(inputs.end(), leaves.begin(), leaves.end());
  }
  return inputs;
}

// ---- forward -----------------------------------------------------------------------------------

void SequencePass::forward() {
  std::size_t part = 0;
  for (Rerun& span : reruns_) {
    while (part < span.begin) forward(part++);
    forward(span);
    part = span.end;
  }
  while (part < cuts_.size()) forward(part++);
}

/// Leaves the inputs of a span and what it gives, as leaves.
void SequencePass::forward(Rerun& span) {
  for (std::size_t i = 0; i < micro_batches_.size(); ++i) {
    span.inputs.emplace_back(inputs_of(span.begin, i));
  }
  span.start.emplace(span.unit);
  {
    const SpanStart::Forward scope(*span.start, *span.unit);
    for (std::size_t part = span.begin; part < span.end; ++part) {
      forward(part);
      for (Cut& cut : cuts_[part]) cut.outputs.clear();  // without a graph
      const std::size_t first = first_beside(part);
      if (!is_last_beside(part) || first == span.begin) continue;
      for (std::size_t before = first_beside(first - 1); before < first; ++before) {
        cuts_[before].clear();
      }
    }
  }
  for (Cut& cut : cuts_[span.end - 1]) {
    cut.taken.clear();
    for (torch::Tensor& leaf : cut.leaves) {
      if (leaf.defined() && leaf.is_floating_point()) leaf.requires_grad_();
    }
  }
  for (KeptInputs& inputs : span.inputs) inputs.put_away(span.unit->entrance().activations());
}

Tensors SequencePass::run(std::size_t part, std::size_t micro_batch, Tensors& taken) {
  const std::size_t first = first_beside(part);
  Tensors inputs = inputs_of(first, micro_batch);
  if (first > 0 && has_others_beside(part)) inputs = taken = as_leaves(inputs);
  Tensors outputs = parts_[part].run(inputs, micro_batches_[micro_batch]);
  if (!torch::GradMode::is_enabled()) {
    // Without a graph an output may be the very input, of which the values are let go of below.
    for (torch::Tensor& output : outputs) output = output.detach();
  }
  // The graph of a function without a unit keeps the very tensors that it took and returned.
  if (!parts_[part].has_unit) return outputs;
  release_values(taken);
  if (first > 0 && is_last_beside(part)) {
    for (std::size_t before = first_beside(first - 1); before < first; ++before) {
      if (parts_[before].has_unit) release_values(cuts_[before][micro_batch].outputs);
      release_values(cuts_[before][micro_batch].leaves);
    }
  }
  return outputs;
}

void SequencePass::forward_together(std::size_t part) {
  std::vector<Tensors> inputs;
  for (std::size_t i = 0; i < micro_batches_.size(); ++i) inputs.push_back(inputs_of(part, i));
  std::vector<Tensors> outputs = parts_[part].run_together(inputs);
  if (outputs.size() != inputs.size()) {
    throw UsageError("a part of a sequence of units was given " + std::to_string(inputs.size()) +
                     " micro-batches and returned " + std::to_string(outputs.size()));
  }
  for (Tensors& of_one : outputs) {
    Tensors leaves = as_leaves(of_one);
    cuts_[part].push_back({std::move(of_one), std::move(leaves), {}});
  }
}

void SequencePass::forward(std::size_t part) {
  if (runs_together(part)) {
    forward_together(part);
    return;
  }
  const PartScope scope(parts_[part], Pass::kForward, micro_batches_.size());
  for (std::size_t i = 0; i < micro_batches_.size(); ++i) {
    Tensors taken;
    Tensors outputs = run(part, i, taken);
    Tensors leaves = as_leaves(outputs);
    cuts_[part].push_back({std::move(outputs), std::move(leaves), std::move(taken)});
  }
}

// ---- the last part -----------------------------------------------------------------------------

std::vector<torch::Tensor> SequencePass::finish(const BackwardOfLoss& backward_of_loss) {
  const std::size_t last = parts_.size() - 1;
  std::vector<torch::Tensor> losses = run_last(backward_of_loss);
  note_complete(last);
  return losses;
}

std::vector<torch::Tensor> SequencePass::run_last(const BackwardOfLoss& backward_of_loss) {
  const std::size_t last = parts_.size() - 1;
  PartScope scope(parts_[last], Pass::kForward, micro_batches_.size());
  std::vector<torch::Tensor> losses;
  for (std::size_t i = 0; i < micro_batches_.size(); ++i) {
    Tensors taken;
    const Tensors outputs = run(last, i, taken);
    if (outputs.size() != 1) {
      throw UsageError("the last part of a sequence of units returns the loss alone, not " +
                       std::to_string(outputs.size()) + " tensors");
    }
    const Anchor::OwnBackward own(anchor_);
    backward_of_loss(outputs.front());
    losses.push_back(outputs.front().detach());
  }
  scope.bring_gradients();
  return losses;
}

// ---- backward ----------------------------------------------------------------------------------

void SequencePass::backward() {
  std::size_t part = cuts_.size();
  for (std::size_t next = reruns_.size(); next-- > 0;) {
    Rerun& span = reruns_[next];
    while (part > span.end) backward(--part);
    backward(span);
    part = span.begin;
  }
  while (part > 0) backward(--part);
}

void SequencePass::backward(Rerun& span) {
  for (const Cut& cut : cuts_[span.end - 1]) {
    Tensors& gradients = span.gradients.emplace_back();
    for (const torch::Tensor& leaf : cut.leaves) {
      gradients.push_back(leaf.defined() ? leaf.grad() : torch::Tensor());
    }
  }
  cuts_[span.end - 1].clear();
  const SpanStart::Again again(*span.start);
  for (std::size_t i = 0; i < micro_batches_.size(); ++i) {
    const KeptInputs::AtHand at_hand(span.inputs[i], span.unit->entrance().activations());
    lay_ready(span.inputs[i].tensors(), span.begin, i);
  }
  span.inputs.clear();
  for (std::size_t part = span.begin; part < span.end; ++part) forward(part);
  for (std::size_t i = 0; i < micro_batches_.size(); ++i) {
    const Tensors& leaves = cuts_[span.end - 1][i].leaves;
    for (std::size_t j = 0; j < leaves.size(); ++j) {
      if (leaves[j].defined()) leaves[j].mutable_grad() = span.gradients[i][j];
    }
  }
  span.gradients.clear();
  for (std::size_t part = span.end; part-- > span.begin;) backward(part);
}

void SequencePass::lay_ready(const Tensors& inputs, std::size_t first, std::size_t micro_batch) {
  if (first == 0) return;  // it takes the micro-batch itself
  std::size_t next = 0;
  for (std::size_t before = first_beside(first - 1); before < first; ++before) {
    for (torch::Tensor& leaf : cuts_[before][micro_batch].leaves) leaf = inputs[next++];
  }
}

void SequencePass::backward(std::size_t part) {
  run_backward(part);
  note_complete(part);
}

/// A unit's gradients are complete with those of its first use.
void SequencePass::note_complete(std::size_t part) const {
  if (when_complete_ && is_first_use_[part]) when_complete_(*unit_of(parts_[part].unit));
}

void SequencePass::run_backward(std::size_t part) {
  std::vector<Roots> roots;
  bool has_roots = false;
  for (Cut& cut : cuts_[part]) {
    roots.push_back(roots_of(cut.outputs, cut.leaves));
    has_roots = has_roots || !roots.back().outputs.empty();
    cut.outputs.clear();
    cut.leaves.clear();
  }
  if (runs_together(part)) {
    Roots all;
    for (const Roots& of_one : roots) {
      all.outputs.insert(all.outputs.end(), of_one.outputs.begin(), of_one.outputs.end());
      all.gradients.insert(all.gradients.end(), of_one.gradients.begin(), of_one.gradients.end());
    }
    roots.assign(1, std::move(all));
  }
  if (has_roots) {
    PartScope scope(parts_[part], Pass::kBackward, micro_batches_.size());
    for (std::size_t i = 0; i < roots.size(); ++i) {
      const Roots begin = std::exchange(roots[i], {});  // its graph goes with it
      if (begin.outputs.empty()) continue;
      {
        const Anchor::OwnBackward own(anchor_);
        torch::autograd::backward(begin.outputs, begin.gradients);
      }
      add_taken(part, i);
    }
    scope.bring_gradients();
  }
  cuts_[part].clear();
  if (!parts_[part].is_beside) give_sums(part);
}

void SequencePass::add_taken(std::size_t part, std::size_t micro_batch) {
  const torch::NoGradGuard no_grad;
  const Tensors taken = std::exchange(cuts_[part][micro_batch].taken, {});
  sums_.resize(micro_batches_.size());
  Tensors& sums = sums_[micro_batch];
  sums.resize(std::max(sums.size(), taken.size()));
  for (std::size_t i = 0; i < taken.size(); ++i) {
    if (!taken[i].defined() || !taken[i].grad().defined()) continue;
    if (sums[i].defined()) {
      sums[i].add_(taken[i].grad());
    } else {
      sums[i] = taken[i].grad().to(torch::kFloat32, /*non_blocking=*/false, /*copy=*/true);
    }
  }
}

void SequencePass::give_sums(std::size_t first) {
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const Tensors leaves = inputs_of(first, i);
    for (std::size_t j = 0; j < sums_[i].size(); ++j) {
      if (!sums_[i][j].defined()) continue;
      leaves[j].mutable_grad() = sums_[i][j].to(leaves[j].scalar_type());
    }
  }
  sums_.clear();
}

}  // namespace strata::zero3
