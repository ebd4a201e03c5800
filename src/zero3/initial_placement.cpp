#include "zero3/initial_placement.h"

#include <limits>
#include <span>

#include "zero3/parameter_values.h"

namespace strata::zero3 {

namespace {

const optim_cpu::StateHome kNoHome;

torch::Tensor initial_values(const Unit& unit, std::size_t index,
                             const ParameterInitializer& initializer) {
  if (!initializer) return unit.parameters()[index];
  const ParameterLayout& parameter = unit.layout().parameters[index];
  // NaN: what the initializer leaves out is found.
  torch::Tensor values = torch::full(parameter.shape, std::numeric_limits<float>::quiet_NaN());
  initializer(unit.layout().full_name(parameter), values);
  return values;
}

}  // namespace

void check_initial_values(const Unit& unit) {
  for (std::size_t i = 0; i < unit.parameters().size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    std::ignore = checked_masters(unit.layout().full_name(parameter), parameter.shape,
                                  unit.parameters()[i], unit.format().precision);
  }
}

InitialPlacement::InitialPlacement(const StateFormat& format, tiering::ShardStore* store,
                                   tiering::Budget& host, Logger& log)
    : format_(format), store_(store) {
  if (store == nullptr) return;
  const std::uint64_t chunk = store->chunk_bytes();
  const std::uint64_t weight = MasterStream::weight_staging_bytes(format, chunk, /*frozen=*/false);
  const std::uint64_t master = MasterStream::master_staging_bytes(format, chunk);
  const std::uint64_t frozen = MasterStream::weight_staging_bytes(format, chunk, /*frozen=*/true);
  arena_.emplace(host, weight + master + frozen, log);
  arena_->heed(store->lost_memory());
  trainable_.weight = arena_->take(weight, "staging of initial weights");
  if (master > 0) trainable_.master = arena_->take(master, "staging of initial masters");
  frozen_.weight = arena_->take(frozen, "staging of initial frozen weights");
}

void InitialPlacement::place(Unit& unit, const ParameterInitializer& initializer) {
  torch::NoGradGuard no_grad;
  constexpr auto kZeros = MasterStream::Start::kZeros;
  MasterStream trainable(format_, unit.trainable().count, unit.trainable().weight,
                         unit.states.master, store_, trainable_, kZeros);
  MasterStream frozen(format_, unit.frozen().count, unit.frozen().weight, kNoHome, store_, frozen_,
                      kZeros);
  for (std::size_t i = 0; i < unit.layout().parameters.size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    const torch::Tensor masters =
        checked_masters(unit.layout().full_name(parameter), parameter.shape,
                        initial_values(unit, i, initializer), format_.precision);
    (parameter.trainable ? trainable : frozen)
        .write(parameter.offset,
               {masters.const_data_ptr<float>(), static_cast<std::size_t>(masters.numel())});
  }
  trainable.flush();
  frozen.flush();
}

}  // namespace strata::zero3
