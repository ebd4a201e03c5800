#include "models/layout_estimates.h"

#include <algorithm>
#include <string>

#include "models/loss_chunks.h"
#include "strata/formats/name_pattern.h"

namespace strata::models {

std::uint64_t parameter_count(const std::vector<zero3::UnitLayout>& units) {
  std::uint64_t count = 0;
  for (const zero3::UnitLayout& unit : units) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) count += parameter.count;
  }
  return count;
}

std::uint64_t device_bytes(const zero3::UnitLayout& unit, Precision precision) {
  return (unit.trainable_count + unit.frozen_count) * weight_bytes(precision) +
         (unit.fp32_trainable_count + unit.fp32_frozen_count) * weight_bytes(Precision::kFp32);
}

bool device_has_room(zero3::PlanInput input, const std::vector<zero3::UnitLayout>& units) {
  input.units.insert(input.units.end(), units.begin(), units.end());
  return zero3::smallest_budgets(input).device <= input.budgets.device;
}

std::uint64_t elements_within(std::uint64_t bytes, std::string_view weight,
                              const std::vector<std::string>& fp32_patterns, Precision precision) {
  const bool fp32 = formats::matches_any_pattern(fp32_patterns, std::string(weight));
  return std::max<std::uint64_t>(1, bytes / weight_bytes(fp32 ? Precision::kFp32 : precision));
}

std::optional<RowTiles> table_tiles(std::int64_t rows, std::int64_t width,
                                    std::uint64_t elements_max) {
  const RowTiles tiles(rows, width, elements_max);
  return tiles.count() > 1 ? std::make_optional(tiles) : std::nullopt;
}

std::uint64_t loss_bytes(const MicroBatch& micro_batch, std::int64_t vocab_size, std::int64_t width,
                         const std::optional<RowTiles>& vocabulary, std::uint64_t number_bytes) {
  return static_cast<std::uint64_t>(
      loss_bytes({.rows = static_cast<std::int64_t>(micro_batch.tokens()),
                  .vocab_size = vocabulary ? vocabulary->tile_rows() : vocab_size,
                  .width = width,
                  .number_bytes = static_cast<std::int64_t>(number_bytes)}));
}

std::uint64_t gradient_bytes(const std::vector<zero3::UnitLayout>& units,
                             std::uint64_t micro_batches, std::uint64_t number_bytes) {
  std::uint64_t largest = 0;
  for (const zero3::UnitLayout& unit : units) largest = std::max(largest, unit.trainable_count);
  return largest * (number_bytes + (micro_batches > 1 ? sizeof(float) : 0));
}

}  // namespace strata::models
