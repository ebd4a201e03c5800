#include "zero3/state_access.h"

#include <numeric>
#include <optional>
#include <utility>

#include "strata/base/error.h"

namespace strata::zero3 {

namespace {

const optim_cpu::StateHome kNoHome;

std::span<float> numbers_of(torch::Tensor& values) {
  return {values.mutable_data_ptr<float>(), static_cast<std::size_t>(values.numel())};
}

const optim_cpu::StateHome& master_home(const Unit& unit, bool trainable) {
  return trainable ? unit.states.master : kNoHome;
}

}  // namespace

/// Buffers for one stream, for the length of a scope.
struct StateAccess::Lease {
  std::vector<tiering::PinnedSlot> slots;
  StagingBuffers buffers;
};

/// A visitor at work.
class StateAccess::UseScope {
 public:
  explicit UseScope(StateAccess& access) : access_(access), before_(access.in_use_) {
    access.in_use_ = true;
  }
  ~UseScope() { access_.in_use_ = before_; }
  UseScope(const UseScope&) = delete;
  UseScope& operator=(const UseScope&) = delete;

 private:
  StateAccess& access_;
  bool before_;
};

StateAccess::Lease StateAccess::lease(const StateFormat& format, const optim_cpu::StateHome& weight,
                                      const optim_cpu::StateHome& master) {
  Lease lease;
  const auto take = [&](std::uint64_t bytes) {
    for (tiering::PinnedSlots* const pool : pools_) {
      if (pool == nullptr) continue;
      if (auto slot = pool->try_acquire()) {
        lease.slots.push_back(std::move(*slot));
        return lease.slots.back().bytes().first(bytes);
      }
    }
    throw UsageError(
        "states cannot be read or written here: the staging buffers are in use (by a visitor of "
        "states around this one); do one after the other");
  };
  const bool frozen = !master.extent && master.memory.empty();
  if (weight.extent) {
    lease.buffers.weight =
        take(MasterStream::weight_staging_bytes(format, store_->chunk_bytes(), frozen));
  }
  if (master.extent) {
    lease.buffers.master = take(MasterStream::master_staging_bytes(format, store_->chunk_bytes()));
  }
  return lease;
}

void StateAccess::read_masters(Unit& unit, const Visit& visit) {
  const UseScope in_use(*this);
  const auto stream_of = [&](FlatVector& vector, bool trainable, const Lease& lease) {
    return MasterStream(unit.format(), vector.count, vector.weight, master_home(unit, trainable),
                        store_, lease.buffers, MasterStream::Start::kAtRest);
  };
  const Lease for_trainable =
      lease(unit.format(), unit.trainable().weight, master_home(unit, true));
  const Lease for_frozen = lease(unit.format(), unit.frozen().weight, kNoHome);
  MasterStream trainable = stream_of(unit.trainable(), true, for_trainable);
  MasterStream frozen = stream_of(unit.frozen(), false, for_frozen);
  for (std::size_t i = 0; i < unit.parameters().size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    torch::Tensor values = torch::empty(parameter.shape, torch::kFloat32);
    (parameter.trainable ? trainable : frozen).read(parameter.offset, numbers_of(values));
    visit(i, values);
  }
}

void StateAccess::edit_masters(Unit& unit, const std::vector<std::size_t>& parameters,
                               const Visit& edit) {
  const UseScope in_use(*this);
  for (const bool wanted : {true, false}) {
    FlatVector& vector = wanted ? unit.trainable() : unit.frozen();
    const optim_cpu::StateHome& master = master_home(unit, wanted);
    const Lease lent = lease(unit.format(), vector.weight, master);
    MasterStream stream(unit.format(), vector.count, vector.weight, master, store_, lent.buffers,
                        MasterStream::Start::kAtRest);
    for (const std::size_t i : parameters) {
      const ParameterLayout& parameter = unit.layout().parameters[i];
      if (parameter.trainable != wanted) continue;
      torch::Tensor values = torch::empty(parameter.shape, torch::kFloat32);
      stream.read(parameter.offset, numbers_of(values));
      try {
        edit(i, values);
      } catch (...) {
        stream.flush();
        throw;
      }
      stream.write(parameter.offset, numbers_of(values));
    }
    stream.flush();
  }
}

torch::Tensor StateAccess::weights(Unit& unit, std::size_t parameter) {
  const ParameterLayout& layout = unit.layout().parameters[parameter];
  FlatVector& vector = unit.vector_of(parameter);
  const Lease lent = lease(unit.format(), vector.weight, kNoHome);
  MasterStream stream(unit.format(), vector.count, vector.weight, kNoHome, store_, lent.buffers,
                      MasterStream::Start::kAtRest);
  torch::Tensor values = torch::empty(layout.shape, torch::kFloat32);
  stream.read_weights(layout.offset, numbers_of(values));
  return values;
}

void StateAccess::read_gradients(Unit& unit, const Visit& visit) {
  if (unit.gradient_empty) return;
  const UseScope in_use(*this);
  const StateFormat format = unit.states.gradient_fp32 ? Precision::kFp32 : unit.format().precision;
  const Lease lent = lease(format, unit.states.gradient, kNoHome);
  MasterStream stream(format, unit.states.count, unit.states.gradient, kNoHome, store_,
                      lent.buffers, MasterStream::Start::kAtRest);
  for (const TrainableParameter& parameter : unit.trainables()) {
    if (!parameter.has_gradient) continue;
    torch::Tensor values = torch::empty(parameter.layout->shape, torch::kFloat32);
    stream.read_weights(parameter.layout->offset, numbers_of(values));
    visit(static_cast<std::size_t>(parameter.layout - unit.layout().parameters.data()), values);
  }
}

}  // namespace strata::zero3
