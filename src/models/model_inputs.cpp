#include "models/model_inputs.h"

#include <string>

#include "strata/base/error.h"
#include "strata/base/shape_text.h"

namespace strata::models {

namespace {

std::string shape_of(const torch::Tensor& tensor) {
  const c10::IntArrayRef sizes = tensor.sizes();
  return shape_text({sizes.data(), sizes.size()});
}

}  // namespace

void check_tokens(const torch::Tensor& tokens, std::string_view context_key, std::int64_t context) {
  if (tokens.dim() != 2 || tokens.scalar_type() != torch::kInt64 || tokens.numel() == 0 ||
      tokens.size(1) > context) {
    throw UsageError("tokens must be int64 [B, T] with T from 1 to " + std::string(context_key) +
                     " (" + std::to_string(context) + "), not " +
                     std::string(tokens.dtype().name()) + " " + shape_of(tokens));
  }
}

void check_targets(const torch::Tensor& targets, const torch::Tensor& tokens) {
  if (targets.sizes() == tokens.sizes() && targets.scalar_type() == torch::kInt64) return;
  throw UsageError("targets must be int64 of the shape of the tokens, " + shape_of(tokens) +
                   ", not " + std::string(targets.dtype().name()) + " " + shape_of(targets));
}

void check_batch(const TokenBatch& batch, std::string_view context_key, std::int64_t context) {
  check_tokens(batch.tokens, context_key, context);
  check_targets(batch.targets, batch.tokens);
  if (batch.positions.defined() && batch.positions.sizes() != batch.tokens.sizes()) {
    throw UsageError("positions must be of the shape of the tokens, " + shape_of(batch.tokens) +
                     ", not " + shape_of(batch.positions));
  }
  if (batch.divisor && !(*batch.divisor > 0)) {
    throw UsageError("a loss is divided by a number above 0, not " +
                     std::to_string(*batch.divisor));
  }
}

void check_micro_batch(const UnitSequence::Tensors& micro_batch, std::string_view context_key,
                       std::int64_t context) {
  if (micro_batch.size() != 2 && micro_batch.size() != 4) {
    throw UsageError(
        "a micro-batch is {tokens, targets} or {tokens, targets, positions, divisor}, not " +
        std::to_string(micro_batch.size()) + " tensors");
  }
  check_batch({.tokens = micro_batch[0],
               .targets = micro_batch[1],
               .positions = positions_of(micro_batch),
               .divisor = std::nullopt},
              context_key, context);
}

torch::Tensor positions_of(const UnitSequence::Tensors& micro_batch) {
  return micro_batch.size() > 2 ? micro_batch[2] : torch::Tensor();
}

std::optional<double> divisor_of(const UnitSequence::Tensors& micro_batch) {
  if (micro_batch.size() < 4) return std::nullopt;
  return micro_batch[3].item<double>();
}

torch::TensorOptions options_on_meta() {
  return torch::TensorOptions(torch::kMeta).dtype(torch::kFloat32);
}

torch::TensorOptions options_in_memory(Precision precision) {
  switch (precision) {
    case Precision::kFp32: return torch::dtype(torch::kFloat32);
    case Precision::kBf16: return torch::dtype(torch::kBFloat16);
    case Precision::kFp16: return torch::dtype(torch::kFloat16);
  }
  return torch::dtype(torch::kFloat32);
}

}  // namespace strata::models
