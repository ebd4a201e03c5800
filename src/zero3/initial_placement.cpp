#include "zero3/initial_placement.h"

#include <limits>
#include <vector>

#include "zero3/parameter_values.h"

namespace strata::zero3 {

namespace {

torch::Tensor initial_values(const Unit& unit, std::size_t index,
                             const ParameterInitializer& initializer) {
  if (!initializer) return unit.parameters()[index];
  const ParameterLayout& parameter = unit.layout().parameters[index];
  // NaN finds values that the initializer leaves out.
  torch::Tensor values = torch::full(parameter.shape, std::numeric_limits<float>::quiet_NaN());
  initializer(unit.layout().full_name(parameter), values);
  return values;
}

}  // namespace

void check_initial_values(const Unit& unit) {
  for (std::size_t i = 0; i < unit.parameters().size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    std::ignore = checked_masters(unit.layout().full_name(parameter), parameter.shape,
                                  unit.parameters()[i], unit.vector_of(i).format.precision);
  }
}

InitialPlacement::InitialPlacement(const StateFormat& format, bool keeps_fp32, bool needs_staging,
                                   const StatePassage& passage, tiering::Budget& host, Logger& log)
    : passage_(passage) {
  if (!needs_staging) return;
  const std::uint64_t chunk = passage.chunk_bytes;
  const auto weight_bytes_of = [&](std::size_t i) {
    return MasterStream::weight_staging_bytes(i < 2 ? format : kept_in_fp32(format), chunk,
                                              /*frozen=*/i % 2 != 0);
  };
  const std::size_t vectors = keeps_fp32 ? staging_.size() : 2;
  const std::uint64_t master = MasterStream::master_staging_bytes(format, chunk);
  std::uint64_t bytes = master;
  for (std::size_t i = 0; i < vectors; ++i) bytes += weight_bytes_of(i);
  arena_.emplace(host, bytes, log);
  if (passage.places.store != nullptr) arena_->heed(passage.places.store->lost_memory());
  for (std::size_t i = 0; i < vectors; ++i) {
    staging_[i].weight = arena_->take(weight_bytes_of(i), "staging of initial weights");
  }
  // Vectors in fp32 have no master beside the weight.
  if (master > 0) staging_[0].master = arena_->take(master, "staging of initial masters");
}

void InitialPlacement::place(Unit& unit, const ParameterInitializer& initializer) {
  torch::NoGradGuard no_grad;
  std::vector<MasterStream> streams;
  for (std::size_t i = 0; i < unit.vectors().size(); ++i) {
    const FlatVector& vector = unit.vectors()[i];
    streams.emplace_back(vector.format, vector.shard.count(), vector.weight(), vector.states.master,
                         passage_, staging_[i], MasterStream::Start::kZeros);
  }
  for (std::size_t i = 0; i < unit.layout().parameters.size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    const FlatVector& vector = unit.vector_of(i);
    const torch::Tensor masters =
        checked_masters(unit.layout().full_name(parameter), parameter.shape,
                        initial_values(unit, i, initializer), vector.format.precision);
    const std::span<const float> values(masters.const_data_ptr<float>(), parameter.count);
    const ElementRange part = vector.own_part(parameter);
    if (part.count() == 0) continue;
    streams[static_cast<std::size_t>(&vector - unit.vectors().data())].write(
        part.begin - vector.shard.begin,
        values.subspan(part.begin - parameter.offset, part.count()));
  }
  for (MasterStream& stream : streams) stream.flush();
}

}  // namespace strata::zero3
