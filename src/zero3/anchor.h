#pragma once

#include <torch/torch.h>

namespace strata::zero3 {

/// The tensor with which the graphs of all units begin. It requires a gradient, so that backward
/// comes to every unit even if no input needs one (token ids); and it shows whose backward that
/// is. Thread: the engine's.
class Anchor {
 public:
  Anchor();
  Anchor(const Anchor&) = delete;
  Anchor& operator=(const Anchor&) = delete;

  [[nodiscard]] const torch::Tensor& tensor() const noexcept { return tensor_; }
  /// Whether the backward under way is the engine's own: only then do gradients of parameters
  /// count. In every other backward a unit gives the anchor a gradient.
  [[nodiscard]] bool counts() const noexcept { return counts_; }

  /// Marks the engine's own backward, for the length of a scope.
  class OwnBackward {
   public:
    explicit OwnBackward(Anchor& anchor) : anchor_(anchor) { anchor_.counts_ = true; }
    ~OwnBackward() {
      anchor_.counts_ = false;
      anchor_.tensor_.mutable_grad().reset();
    }
    OwnBackward(const OwnBackward&) = delete;
    OwnBackward& operator=(const OwnBackward&) = delete;

   private:
    Anchor& anchor_;
  };

  /// Whether a backward that was not the engine's own has come by since this was asked last.
  [[nodiscard]] bool take_other_backward();

 private:
  torch::Tensor tensor_;
  bool counts_ = false;
};

/// Whether `tensor` is an engine's anchor.
[[nodiscard]] bool is_anchor(const torch::Tensor& tensor);

}  // namespace strata::zero3
