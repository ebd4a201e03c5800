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

void check_micro_batch(const UnitSequence::Tensors& tokens_and_targets,
                       std::string_view context_key, std::int64_t context) {
  if (tokens_and_targets.size() != 2) {
    throw UsageError("a micro-batch is {tokens, targets}, not " +
                     std::to_string(tokens_and_targets.size()) + " tensors");
  }
  check_tokens(tokens_and_targets[0], context_key, context);
  check_targets(tokens_and_targets[1], tokens_and_targets[0]);
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
