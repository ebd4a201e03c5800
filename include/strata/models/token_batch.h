#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace strata::models {

/// The target of a token that bears no loss: of a prompt, say, or of padding. It is the one that
/// transformers and torch's cross entropy have.
inline constexpr std::int64_t kNoTarget = -100;

/// Sequences that a loss is computed of, B rows of T tokens.
///
/// Documents may lie one behind the other in a row ("packing"). With their `positions` they see
/// nothing of each other, and every one has the loss and the gradients that it has alone, up to the
/// roundings of products of other shapes.
///
/// The mean over the tokens that bear loss of several micro-batches, and ranks, of different counts
/// is had by one `divisor` for all of them: their tokens that bear loss over the number of
/// micro-batches of all ranks. Engine::backward and train_batch take the mean of micro-batches and
/// ranks, and so divide the sum of all losses by all its tokens.
struct TokenBatch {
  torch::Tensor tokens;   ///< int64 [B, T]
  torch::Tensor targets;  ///< int64 [B, T], or kNoTarget; the token that follows, as a rule
  /// Each token's place in its document, int64 [B, T] in host memory: 0 where one begins, as the
  /// first token of a row does, and else one more than the token before it has. Undefined: every
  /// row is one document.
  torch::Tensor positions = {};
  /// What the sum of the losses is divided by, above 0; none: by the number of targets that are
  /// not kNoTarget. Where there are none of these, loss and gradients are 0.
  std::optional<double> divisor = std::nullopt;

  /// A micro-batch of CausalLm::sequence: {tokens, targets}, and where there are positions or a
  /// divisor {tokens, targets, positions, divisor as an fp64 scalar}.
  [[nodiscard]] std::vector<torch::Tensor> micro_batch() const;
};

}  // namespace strata::models
