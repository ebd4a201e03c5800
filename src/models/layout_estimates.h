#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/models/micro_batch.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/row_tiles.h"
#include "strata/zero3/unit_layout.h"

/// \file
/// What follows from the units of a model, whatever its family. No LibTorch.

namespace strata::models {

/// Arithmetic of a unit's backward, for one of its forward.
inline constexpr double kBackwardPerForward = 2;
/// Tiles in a device budget, where other units are smaller: one in use, others that come and go.
inline constexpr std::uint64_t kTilesOfBudget = 4;

/// Numbers in the parameters of all units.
[[nodiscard]] std::uint64_t parameter_count(const std::vector<zero3::UnitLayout>& units);

/// Bytes of a unit's parameters on the device.
[[nodiscard]] std::uint64_t device_bytes(const zero3::UnitLayout& unit, Precision precision);

/// Whether the device budget of `input` has room for the units of it and these.
[[nodiscard]] bool device_has_room(zero3::PlanInput input,
                                   const std::vector<zero3::UnitLayout>& units);

/// Elements of `weight` that take at most so many bytes, or one: it may be kept in fp32.
[[nodiscard]] std::uint64_t elements_within(std::uint64_t bytes, std::string_view weight,
                                            const std::vector<std::string>& fp32_patterns,
                                            Precision precision);

/// A table in tiles of at most so many elements; nullopt: it is no larger.
[[nodiscard]] std::optional<RowTiles> table_tiles(std::int64_t rows, std::int64_t width,
                                                  std::uint64_t elements_max);

/// Most bytes of logits, and of what is made of them, that the loss of a micro-batch holds at one
/// time. `vocabulary` is in tiles where there are some.
[[nodiscard]] std::uint64_t loss_bytes(const MicroBatch& micro_batch, std::int64_t vocab_size,
                                       std::int64_t width,
                                       const std::optional<RowTiles>& vocabulary,
                                       std::uint64_t number_bytes);

/// Bytes of the gradients of the largest unit, and with several micro-batches of their fp32 sums.
[[nodiscard]] std::uint64_t gradient_bytes(const std::vector<zero3::UnitLayout>& units,
                                           std::uint64_t micro_batches, std::uint64_t number_bytes);

}  // namespace strata::models
