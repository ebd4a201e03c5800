#include "zero3/forecast/unit_shape.h"

#include <array>

#include "strata/base/units.h"
#include "zero3/shard_map.h"

namespace strata::zero3::forecast {

using tiering::Tier;

namespace {

constexpr std::uint64_t kPage = 4096;

UnitShape shape_of(const UnitLayout& layout, const PlanInput& input) {
  UnitShape shape;
  const std::array counts = {layout.trainable_count, layout.frozen_count,
                             layout.fp32_trainable_count, layout.fp32_frozen_count};
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const ShardMap map(counts[i], input.world_size);
    VectorShape& vector = shape.vectors.emplace_back();
    vector.trains = i % 2 == 0;
    vector.format = i < 2 ? input.format : kept_in_fp32(input.format);
    vector.reduced_elements = map.shard_count();
    vector.shard_elements = input.states_are_whole() ? map.padded_count() : map.shard_count();
    vector.gathered_bytes = map.padded_count() * weight_bytes(vector.format.precision);
  }
  return shape;
}

}  // namespace

StateBytes state_bytes_of(const PlanInput& input, const UnitShape& unit,
                          const StateFormat& format) {
  StateBytes bytes;
  for (const StateKind kind :
       {StateKind::kWeight, StateKind::kMaster, StateKind::kM, StateKind::kV}) {
    const auto width = static_cast<double>(state_bytes(format, kind));
    const Tier home = kind == StateKind::kWeight ? input.parameter_tier : input.optimizer_tier;
    bytes.in_all += width;
    if (home == Tier::kNvme && !unit.cached.has(kind)) bytes.of_disk += width;
    if (home == Tier::kDevice && !input.device_memory_is_host) bytes.of_device += width;
  }
  return bytes;
}

std::vector<UnitShape> unit_shapes(const Plan& plan, const PlanInput& input) {
  std::vector<UnitShape> shapes;
  shapes.reserve(input.units.size());
  for (std::size_t i = 0; i < input.units.size(); ++i) {
    shapes.push_back(shape_of(input.units[i], input));
    shapes.back().gradient_on_nvme = plan.gradient_tier[i] == Tier::kNvme;
    shapes.back().cached = plan.cached[i];
  }
  return shapes;
}

std::vector<ScheduledUnit> scheduled_units(const Plan& plan, const PlanInput& input) {
  std::vector<ScheduledUnit> units;
  units.reserve(input.units.size());
  for (std::size_t i = 0; i < input.units.size(); ++i) {
    const UnitLayout& layout = input.units[i];
    ScheduledUnit& unit = units.emplace_back();
    unit.name = layout.name;
    unit.elements = layout.trainable_count + layout.frozen_count + layout.fp32_trainable_count +
                    layout.fp32_frozen_count;
    for (const VectorShape& vector : shape_of(layout, input).vectors) {
      unit.region_bytes += round_up(vector.gathered_bytes, kPage);
      if (plan.cached[i].has(StateKind::kWeight)) continue;
      unit.pieces += static_cast<std::uint32_t>(ceil_div(vector.shard_bytes(), plan.slot_bytes));
    }
  }
  return units;
}

}  // namespace strata::zero3::forecast
