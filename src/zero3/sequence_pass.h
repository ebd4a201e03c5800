#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "strata/zero3/unit_sequence.h"
#include "zero3/anchor.h"
#include "zero3/kept_inputs.h"
#include "zero3/span.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Runs micro-batches forward and backward through a sequence of units, all of them through one
/// unit before the next. So a unit is brought to the device once for each direction, however many
/// micro-batches there are, and its gradients leave the device once, as their sum.
///
/// Every pair of a part and a micro-batch has a graph of its own (but for parts that all go through
/// at once, which have one), cut off at the part's inputs: they are leaves, whose gradients are
/// where the backward of the part before begins. Parts that stand side by side have leaves of their
/// own, whose gradients are added up in fp32. Of a span that recomputes forward leaves its inputs
/// alone: all micro-batches go through its parts again, with graphs, when backward comes to its
/// end. The last part runs each micro-batch forward and backward at once, so that of what a loss
/// needs (logits) only one micro-batch's is there. Thread: the engine's.
class SequencePass {
 public:
  using Tensors = UnitSequence::Tensors;
  /// Computes the gradients of a micro-batch's loss, and throws for what is none.
  using BackwardOfLoss = std::function<void(const torch::Tensor& loss)>;
  /// Is told of a unit whose gradients have all been brought; it is not in use.
  using WhenComplete = std::function<void(Unit& unit)>;

  /// `model` has a part, the last one stands alone, and both outlive it. `when_complete` may be
  /// empty.
  SequencePass(const UnitSequence& model, std::span<const Tensors> micro_batches, Anchor& anchor,
               WhenComplete when_complete);

  /// Runs forward through all parts but the last one.
  void forward();
  /// Runs the last part; returns the losses, without a graph. Throws UsageError for a part that
  /// returns more than a loss, and what `backward_of_loss` throws.
  [[nodiscard]] std::vector<torch::Tensor> finish(const BackwardOfLoss& backward_of_loss);
  /// Runs backward through all parts but the last one.
  void backward();

 private:
  /// What one part leaves behind of one micro-batch. Once the next part has run, backward needs
  /// their shapes and graphs alone; what else needs the values keeps them itself.
  struct Cut {
    Tensors outputs;  ///< with the part's graph
    Tensors leaves;   ///< the same values, as the next part takes them
    Tensors taken;    ///< what the part took, where others took the same: leaves of its own
  };

  /// A span that recomputes.
  struct Rerun {
    std::size_t begin, end;
    std::shared_ptr<Unit> unit;        ///< whose rules it has
    std::optional<SpanStart> start{};  ///< from forward on
    std::vector<KeptInputs> inputs{};  ///< of each micro-batch
    std::vector<Tensors> gradients{};  ///< of what it gave, of each micro-batch
  };

  void forward(std::size_t part);
  void forward_together(std::size_t part);
  void forward(Rerun& span);
  [[nodiscard]] std::vector<torch::Tensor> run_last(const BackwardOfLoss& backward_of_loss);
  void backward(std::size_t part);
  void backward(Rerun& span);
  /// Lets the first part of a span find its inputs where it takes them from.
  void lay_ready(const Tensors& inputs, std::size_t first, std::size_t micro_batch);
  /// Runs backward through a part from those of its outputs that have gradients.
  void run_backward(std::size_t part);
  /// Adds the gradients of what a part took to those of the parts beside it.
  void add_taken(std::size_t part, std::size_t micro_batch);
  /// Gives these sums to what the parts from `first` on took: backward has come through all.
  void give_sums(std::size_t first);
  void note_complete(std::size_t part) const;
  /// Runs forward of one micro-batch through a part, and says what it took, where others take the
  /// same. The values of what was taken are let go of with the last part that takes them.
  [[nodiscard]] Tensors run(std::size_t part, std::size_t micro_batch, Tensors& taken);
  /// What the parts from `first` on that stand side by side take.
  [[nodiscard]] Tensors inputs_of(std::size_t first, std::size_t micro_batch) const;
  /// Whether all micro-batches go through a part at once, with one graph.
  [[nodiscard]] bool runs_together(std::size_t part) const;
  [[nodiscard]] std::size_t first_beside(std::size_t part) const;
  [[nodiscard]] bool has_others_beside(std::size_t part) const;
  [[nodiscard]] bool is_last_beside(std::size_t part) const;

  const std::vector<UnitSequence::Part>& parts_;
  std::span<const Tensors> micro_batches_;
  Anchor& anchor_;
  WhenComplete when_complete_;
  std::vector<bool> is_first_use_;      // of each part: backward comes to its unit no more
  std::vector<std::vector<Cut>> cuts_;  // of each part but the last, for each micro-batch
  std::vector<Rerun> reruns_;           // in order
  std::vector<Tensors> sums_;  // for each micro-batch, in fp32: of what parts side by side took
};

}  // namespace strata::zero3
