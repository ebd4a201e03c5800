#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "strata/base/number_format.h"
#include "strata/models/token_batch.h"
#include "strata/zero3/unit_sequence.h"

/// \file
/// What models of all families check of what they are given, and the tensors they are made of.

namespace strata::models {

/// Throws UsageError unless they are int64 [B, T] with T from 1 to `context`, which the config
/// calls `context_key`.
void check_tokens(const torch::Tensor& tokens, std::string_view context_key, std::int64_t context);

/// Throws UsageError unless they are int64 of the shape of the tokens.
void check_targets(const torch::Tensor& targets, const torch::Tensor& tokens);

/// Throws UsageError unless they have targets of the shape of the tokens, positions, if any, of the
/// same shape, and a divisor above 0.
void check_batch(const TokenBatch& batch, std::string_view context_key, std::int64_t context);

/// Throws UsageError unless it is what TokenBatch::micro_batch gives.
void check_micro_batch(const UnitSequence::Tensors& micro_batch, std::string_view context_key,
                       std::int64_t context);

/// The positions of a micro-batch; undefined where it has none.
[[nodiscard]] torch::Tensor positions_of(const UnitSequence::Tensors& micro_batch);
/// Its divisor, if it has one.
[[nodiscard]] std::optional<double> divisor_of(const UnitSequence::Tensors& micro_batch);

/// Parameters that are filled in an engine: they take no memory.
[[nodiscard]] torch::TensorOptions options_on_meta();
/// Parameters in memory, of the compute format.
[[nodiscard]] torch::TensorOptions options_in_memory(Precision precision);

}  // namespace strata::models
