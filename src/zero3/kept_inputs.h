#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "zero3/activations.h"

namespace strata::zero3 {

/// The inputs of a body, kept from its forward to its backward: detached, the leaves of the graph
/// that the body makes over them. Their values may be in the room for activations meanwhile.
class KeptInputs {
 public:
  KeptInputs() = default;
  /// Undefined tensors stay what they are.
  explicit KeptInputs(const torch::autograd::variable_list& inputs);

  /// The leaves. Those whose values are away have none.
  [[nodiscard]] const torch::autograd::variable_list& tensors() const noexcept { return tensors_; }
  /// The first input from `begin` on that was changed in place since this was made.
  [[nodiscard]] std::optional<std::size_t> changed_from(std::size_t begin = 0) const;
  /// Leaves of their own over the same values.
  [[nodiscard]] torch::autograd::variable_list copies() const;

  /// Hands the values to `activations`, as far as it takes them; null: it keeps them. Whoever has
  /// the very tensors that a body was given still finds their values.
  void put_away(Activations* activations);

  /// The inputs with their values, for the length of a scope.
  class AtHand {
   public:
    AtHand(KeptInputs& inputs, Activations* activations);
    ~AtHand() { inputs_.tensors_ = std::move(without_); }
    AtHand(const AtHand&) = delete;
    AtHand& operator=(const AtHand&) = delete;

   private:
    KeptInputs& inputs_;
    torch::autograd::variable_list without_;
  };

 private:
  torch::autograd::variable_list tensors_;
  std::vector<std::uint32_t> versions_;
  std::vector<Activations::Away> away_;
};

}  // namespace strata::zero3
