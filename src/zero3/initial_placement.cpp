#include "zero3/initial_placement.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <string>

#include "strata/base/units.h"
#include "strata/zero3/ranged_initializer.h"
#include "zero3/parameter_values.h"
#include "zero3/writes_in_flight.h"

namespace strata::zero3 {

namespace {

constexpr float kLeftOut = std::numeric_limits<float>::quiet_NaN();  // finds what is not filled
/// The blocks of values that are in memory as a whole.
constexpr std::uint64_t kValueBlockElements = 1u << 16;
/// Buffers enough for any disk: twice what keeps its queue full.
constexpr std::uint64_t kStagingBytesMost = 32_MiB;

torch::Tensor whole_parameter(const Unit& unit, std::size_t index,
                              const ParameterInitializer& initializer) {
  if (!initializer) return unit.parameters()[index];
  const ParameterLayout& parameter = unit.layout().parameters[index];
  torch::Tensor values = torch::full(parameter.shape, kLeftOut);
  initializer(unit.layout().full_name(parameter), values);
  return values;
}

MasterSource source_of_whole(const std::string& name, const torch::Tensor& masters,
                             Precision precision) {
  const std::span<const float> all(masters.const_data_ptr<float>(),
                                   static_cast<std::size_t>(masters.numel()));
  return {.count = all.size(),
          .block_elements = kValueBlockElements,
          .block = [=](std::uint64_t begin, std::span<float> scratch) {
            const std::span<const float> block = all.subspan(begin, scratch.size());
            check_magnitudes(name, block, begin, precision);
            return block;
          }};
}

MasterSource source_of_ranges(const std::string& name, std::uint64_t count,
                              const RangedInitializer& initializer, Precision precision) {
  return {.count = count,
          .block_elements = initializer.block_elements(),
          .block = [=, &initializer](std::uint64_t begin, std::span<float> scratch) {
            std::ranges::fill(scratch, kLeftOut);
            initializer.fill()(name, begin, scratch);
            check_magnitudes(name, scratch, begin, precision);
            return std::span<const float>(scratch);
          }};
}

std::size_t homes_elsewhere(const Unit& unit) {
  std::size_t count = 0;
  for (const FlatVector& vector : unit.vectors()) {
    count +=
        (vector.weight().is_elsewhere() ? 1 : 0) + (vector.states.master.is_elsewhere() ? 1 : 0);
  }
  return count;
}

}  // namespace

void check_initial_values(const Unit& unit) {
  for (std::size_t i = 0; i < unit.parameters().size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    std::ignore = checked_masters(unit.layout().full_name(parameter), parameter.shape,
                                  unit.parameters()[i], unit.vector_of(i).format.precision);
  }
}

/// Makes the pool as large as this unit wants it, unless it is.
void InitialPlacement::take_staging(const Unit& unit, std::uint64_t bytes) {
  const std::size_t needed = homes_elsewhere(unit);
  if (needed == 0) return;
  const std::uint64_t chunk = passage_.chunk_bytes;
  const std::uint64_t held = arena_ ? arena_->used() : 0;
  const std::uint64_t room = host_.limit() - std::min(host_.limit(), host_.used() - held);
  const std::uint64_t wished = std::min({bytes, room, kStagingBytesMost});
  const std::size_t count = std::max<std::size_t>(needed, wished / chunk);
  if (slots_ && slots_->count() >= count) return;
  slots_.reset();
  arena_.reset();
  arena_.emplace(host_, count * chunk, log_);
  if (passage_.places.store != nullptr) arena_->heed(passage_.places.store->lost_memory());
  slots_.emplace(*arena_, count, chunk);
}

void InitialPlacement::place(Unit& unit, const ParameterInitializer& initializer,
                             std::uint64_t staging_bytes) {
  torch::NoGradGuard no_grad;
  take_staging(unit, staging_bytes);
  std::optional<WritesInFlight> writes;
  if (slots_) writes.emplace(*slots_, passage_.places);
  const MasterWriter::Means means{.chunk_bytes = passage_.chunk_bytes,
                                  .threads = threads_,
                                  .scratch = scratch_,
                                  .writes = writes ? &*writes : nullptr};
  std::deque<MasterWriter> writers;
  for (const FlatVector& vector : unit.vectors()) {
    writers.emplace_back(vector.format, vector.shard.count(), vector.weight(), vector.states.master,
                         means);
  }
  const auto* const ranged = initializer.target<RangedInitializer>();
  for (std::size_t i = 0; i < unit.layout().parameters.size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    const std::string name = unit.layout().full_name(parameter);
    const FlatVector& vector = unit.vector_of(i);
    const Precision precision = vector.format.precision;
    const ElementRange part = vector.own_part(parameter);
    torch::Tensor masters;
    if (ranged == nullptr) {
      const torch::Tensor values = whole_parameter(unit, i, initializer);
      // Ranks refuse alike what one of them would.
      masters = part.count() < parameter.count
                    ? checked_masters(name, parameter.shape, values, precision)
                    : masters_of(name, parameter.shape, values);
    }
    if (part.count() == 0) continue;
    writers[static_cast<std::size_t>(&vector - unit.vectors().data())].write(
        part.begin - vector.shard.begin,
        ranged != nullptr ? source_of_ranges(name, parameter.count, *ranged, precision)
                          : source_of_whole(name, masters, precision),
        {part.begin - parameter.offset, part.end - parameter.offset});
  }
  for (MasterWriter& writer : writers) writer.finish();
  if (writes) writes->wait();
}

}  // namespace strata::zero3
