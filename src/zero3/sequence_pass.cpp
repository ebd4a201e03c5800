#include "zero3/sequence_pass.h"

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "zero3/activations.h"
#include "zero3/entrance.h"

namespace strata::zero3 {

namespace {

using Tensors = UnitSequence::Tensors;

/// Holds the unit of a part where several micro-batches come through it. One alone has the entries
/// of the ordinary loop.
class PartScope {
 public:
  PartScope(const UnitSequence::Part& part, Pass pass, std::size_t micro_batches)
      : unit_(unit_of(part.unit)) {
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

/// Whether a part is the first with its unit.
std::vector<bool> first_uses(const std::vector<UnitSequence::Part>& parts) {
  std::set<std::shared_ptr<Unit>> seen;
  std::vector<bool> is_first;
  for (const UnitSequence::Part& part : parts) {
    is_first.push_back(seen.insert(unit_of(part.unit)).second);
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
      cuts_(model.parts().size() - 1) {}

const Tensors& SequencePass::inputs_of(std::size_t part, std::size_t micro_batch) const {
  return part == 0 ? micro_batches_[micro_batch] : cuts_[part - 1][micro_batch].leaves;
}

void SequencePass::Cut::release_values() {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].defined()) continue;
    if (outputs[i].requires_grad()) {
      take_values(outputs[i]);
      take_values(leaves[i]);
    } else {
      outputs[i].reset();
      leaves[i].reset();
    }
  }
}

// ---- forward -----------------------------------------------------------------------------------

void SequencePass::forward() {
  for (std::size_t part = 0; part < cuts_.size(); ++part) forward(part);
}

Tensors SequencePass::run(std::size_t part, std::size_t micro_batch) {
  Tensors outputs = parts_[part].run(inputs_of(part, micro_batch), micro_batches_[micro_batch]);
  if (part > 0) cuts_[part - 1][micro_batch].release_values();
  return outputs;
}

void SequencePass::forward(std::size_t part) {
  const PartScope scope(parts_[part], Pass::kForward, micro_batches_.size());
  for (std::size_t i = 0; i < micro_batches_.size(); ++i) {
    Tensors outputs = run(part, i);
    Tensors leaves = as_leaves(outputs);
    cuts_[part].push_back({std::move(outputs), std::move(leaves)});
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
    const Tensors outputs = run(last, i);
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
  for (std::size_t part = cuts_.size(); part-- > 0;) backward(part);
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
  for (const Cut& cut : cuts_[part]) {
    roots.push_back(roots_of(cut.outputs, cut.leaves));
    has_roots = has_roots || !roots.back().outputs.empty();
  }
  cuts_[part].clear();
  if (!has_roots) return;
  PartScope scope(parts_[part], Pass::kBackward, micro_batches_.size());
  for (Roots& of_micro_batch : roots) {
    const Roots begin = std::exchange(of_micro_batch, {});  // its graph goes with it
    if (begin.outputs.empty()) continue;
    const Anchor::OwnBackward own(anchor_);
    torch::autograd::backward(begin.outputs, begin.gradients);
  }
  scope.bring_gradients();
}

}  // namespace strata::zero3
