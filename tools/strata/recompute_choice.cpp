#include "recompute_choice.h"

#include <algorithm>
#include <cstdint>

#include "strata/base/number_format.h"
#include "strata/base/units.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/plan.h"

namespace strata::tool {

RecomputeChoice choose_recompute(const formats::DsConfig& config, const models::ModelConfig& model,
                                 const models::MicroBatch& micro_batch,
                                 const HostMemoryBound& memory) {
  zero3::PlanInput input = zero3::plan_input_from(config, {}, {.host_memory = memory});
  const models::ModelTiles tiles = models::tiles_of(model, config, input);
  input.units = models::units_in_engine(model, config, tiles);
  const zero3::Plan plan = zero3::make_plan(input);
  const std::uint64_t taken = plan.total.host + plan.total.device;
  const std::uint64_t left = memory.available - std::min(memory.available, taken);
  const std::uint64_t kept = models::estimated_activation_bytes(
      model, micro_batch, static_cast<std::uint64_t>(config.gradient_accumulation_steps),
      weight_bytes(config.precision()), /*recompute=*/false, tiles);
  const bool has_room = kept <= left / 5 * 4;
  return {.recomputes = !has_room,
          .why = "recompute auto: activations are " +
                 std::string(has_room ? "kept" : "recomputed, a third more arithmetic") +
                 "; to keep them takes about " + format_bytes(kept) + " of the " +
                 format_bytes(left) + " that the plan leaves of available memory"};
}

}  // namespace strata::tool
