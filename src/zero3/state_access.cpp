#include "zero3/state_access.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "strata/base/error.h"
#include "zero3/flag_scope.h"

namespace strata::zero3 {

namespace {

const tiering::StateHome kNoHome;

std::span<float> numbers_of(torch::Tensor& values) {
  return {values.mutable_data_ptr<float>(), static_cast<std::size_t>(values.numel())};
}

/// Fills `values`, elements `range` of a vector, with the other ranks' elements; this rank's are
/// there.
void gather_parts(Ranks& ranks, const ShardMap& map, ElementRange range, std::span<float> values) {
  if (values.empty()) return;
  const std::vector<ShardPart> parts = map.parts_of(range);
  std::uint64_t longest = 0;
  for (const ShardPart& part : parts) longest = std::max(longest, part.count);
  std::vector<float> of_all(longest * static_cast<std::uint64_t>(ranks.size()));
  const auto in_all = [&](const ShardPart& part) {
    return std::span(of_all).subspan(static_cast<std::uint64_t>(part.rank) * longest, part.count);
  };
  const auto in_values = [&](const ShardPart& part) {
    return values.subspan(part.begin_in_range, part.count);
  };
  for (const ShardPart& part : parts) {
    if (part.rank == ranks.rank()) std::ranges::copy(in_values(part), in_all(part).begin());
  }
  ranks.begin_all_gather(std::as_writable_bytes(std::span(of_all))).wait();
  for (const ShardPart& part : parts) {
    std::ranges::copy(in_all(part), in_values(part).begin());
  }
}

[[noreturn]] void throw_without_buffers() {
  throw UsageError(
      "states cannot be read or written here: the staging buffers are in use (by a visitor of "
      "states around this one); do one after the other");
}

}  // namespace

/// Buffers for one stream.
struct StateAccess::Lease {
  std::vector<tiering::StagingSlot> slots;
  StagingBuffers buffers;
};

std::optional<StateAccess::Lease> StateAccess::lease(const StateFormat& format,
                                                     const tiering::StateHome& weight,
                                                     const tiering::StateHome& master) {
  Lease lease;
  const auto take = [&](std::span<std::byte>& buffer, std::uint64_t bytes) {
    for (tiering::SlotPool* const pool : pools_) {
      if (pool == nullptr) continue;
      if (auto slot = pool->try_acquire()) {
        lease.slots.push_back(std::move(*slot));
        buffer = lease.slots.back().bytes().first(bytes);
        return true;
      }
    }
    return false;
  };
  const std::uint64_t chunk = passage_.chunk_bytes;
  if (weight.is_elsewhere() &&
      !take(lease.buffers.weight,
            MasterStream::weight_staging_bytes(format, chunk, /*frozen=*/!master.exists()))) {
    return std::nullopt;
  }
  if (master.is_elsewhere() &&
      !take(lease.buffers.master, MasterStream::master_staging_bytes(format, chunk))) {
    return std::nullopt;
  }
  return lease;
}

/// Orders copies behind LibTorch's computations with weights on the device, perhaps writes to them.
void StateAccess::order_behind_computation() const {
  tiering::Device* const device = passage_.places.device;
  if (device == nullptr) return;
  const tiering::Event computed = device->record(tiering::StreamRole::kCompute);
  device->wait(tiering::StreamRole::kDrain, computed);
  device->wait(tiering::StreamRole::kUpload, computed);
}

/// The streams of a unit's vectors, each opened when it is first wanted. As many stay open as the
/// slots allow: parameters of several vectors come in turn.
class StateAccess::Streams {
 public:
  /// The numbers that are read of a vector.
  enum class Of { kMasters, kWeights, kGradients };

  Streams(StateAccess& access, const Unit& unit, Of of) : access_(access), unit_(unit), of_(of) {}

  /// The values of a whole parameter.
  void read(std::size_t parameter, std::span<float> values) {
    const FlatVector& vector = unit_.vector_of(parameter);
    const ParameterLayout& layout = unit_.layout().parameters[parameter];
    const ElementRange own = vector.own_part(layout);
    if (own.count() > 0) {
      const std::span<float> part = values.subspan(own.begin - layout.offset, own.count());
      MasterStream& stream = of(parameter);
      if (of_ == Of::kMasters) {
        stream.read(own.begin - vector.shard.begin, part);
      } else {
        stream.read_weights(own.begin - vector.shard.begin, part);
      }
    }
    if (vector.is_whole()) return;
    gather_parts(access_.ranks_, vector.map, {layout.offset, layout.offset + layout.count}, values);
  }

  /// This rank's part of the values.
  void write(std::size_t parameter, std::span<const float> values) {
    const FlatVector& vector = unit_.vector_of(parameter);
    const ParameterLayout& layout = unit_.layout().parameters[parameter];
    const ElementRange own = vector.own_part(layout);
    if (own.count() == 0) return;
    of(parameter).write(own.begin - vector.shard.begin,
                        values.subspan(own.begin - layout.offset, own.count()));
  }

  /// The stream of the vector that a parameter lies in. Valid until the next call.
  MasterStream& of(std::size_t parameter) {
    const FlatVector& vector = unit_.vector_of(parameter);
    std::optional<Open>& open = open_[static_cast<std::size_t>(&vector - unit_.vectors().data())];
    if (open) return open->stream;
    const tiering::StateHome& home =
        of_ == Of::kGradients ? vector.states.gradient : vector.weight();
    const tiering::StateHome& master = of_ == Of::kMasters ? vector.states.master : kNoHome;
    const StateFormat format = of_ == Of::kGradients && vector.states.gradient_fp32
                                   ? kept_in_fp32(vector.format)
                                   : vector.format;
    std::optional<Lease> lease = access_.lease(format, home, master);
    if (!lease) {
      close();
      lease = access_.lease(format, home, master);
    }
    if (!lease) throw_without_buffers();
    if (!home.device.empty()) access_.order_behind_computation();
    MasterStream stream(format, vector.shard.count(), home, master, access_.passage_,
                        lease->buffers);
    return open.emplace(Open{std::move(*lease), std::move(stream)}).stream;
  }

  /// Sends written pieces home.
  void close() {
    for (std::optional<Open>& open : open_) {
      if (open) open->stream.flush();
      open.reset();
    }
  }

 private:
  struct Open {
    Lease lease;
    MasterStream stream;
  };

  StateAccess& access_;
  const Unit& unit_;
  Of of_;
  std::array<std::optional<Open>, std::tuple_size_v<FlatVectors>> open_;
};

void StateAccess::read_masters(Unit& unit, const Visit& visit) {
  const FlagScope in_use(in_use_);
  Streams streams(*this, unit, Streams::Of::kMasters);
  for (std::size_t i = 0; i < unit.parameters().size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    torch::Tensor values = torch::empty(parameter.shape, torch::kFloat32);
    streams.read(i, numbers_of(values));
    visit(i, values);
  }
}

void StateAccess::edit_masters(Unit& unit, const std::vector<std::size_t>& parameters,
                               const Visit& edit) {
  const FlagScope in_use(in_use_);
  Streams streams(*this, unit, Streams::Of::kMasters);
  for (const std::size_t i : parameters) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    torch::Tensor values = torch::empty(parameter.shape, torch::kFloat32);
    streams.read(i, numbers_of(values));
    try {
      edit(i, values);
    } catch (...) {
      streams.close();
      throw;
    }
    streams.write(i, numbers_of(values));
  }
  streams.close();
}

torch::Tensor StateAccess::weights(Unit& unit, std::size_t parameter) {
  const ParameterLayout& layout = unit.layout().parameters[parameter];
  torch::Tensor values = torch::empty(layout.shape, torch::kFloat32);
  Streams streams(*this, unit, Streams::Of::kWeights);
  streams.read(parameter, numbers_of(values));
  return values;
}

// ---- bytes as they rest ------------------------------------------------------------------------

/// Staging slots for the bytes of one home.
class StateAccess::Buffers {
 public:
  explicit Buffers(std::vector<tiering::StagingSlot> slots) : slots_(std::move(slots)) {
    for (const tiering::StagingSlot& slot : slots_) spans_.push_back(slot.bytes());
  }
  [[nodiscard]] std::span<const std::span<std::byte>> spans() const { return spans_; }

 private:
  std::vector<tiering::StagingSlot> slots_;
  std::vector<std::span<std::byte>> spans_;
};

StateAccess::Buffers StateAccess::buffers_for(const tiering::StateHome& home) const {
  constexpr std::size_t kAtOnce = 4;
  std::vector<tiering::StagingSlot> slots;
  if (!home.is_elsewhere()) return Buffers({});
  for (tiering::SlotPool* const pool : pools_) {
    while (pool != nullptr && slots.size() < kAtOnce) {
      std::optional<tiering::StagingSlot> slot = pool->try_acquire();
      if (!slot) break;
      slots.push_back(*std::move(slot));
    }
  }
  if (slots.empty()) throw_without_buffers();
  if (!home.device.empty()) order_behind_computation();
  return Buffers(std::move(slots));
}

void StateAccess::read_bytes(const tiering::StateHome& home, std::uint64_t bytes,
                             const BytesVisit& visit) {
  const FlagScope in_use(in_use_);
  const Buffers buffers = buffers_for(home);
  read_home(home, bytes, passage_, buffers.spans(), visit);
}

void StateAccess::write_bytes(const tiering::StateHome& home, std::uint64_t bytes,
                              const BytesFill& fill) {
  const FlagScope in_use(in_use_);
  const Buffers buffers = buffers_for(home);
  write_home(home, bytes, passage_, buffers.spans(), fill);
}

// ---- gradients ---------------------------------------------------------------------------------

void StateAccess::read_gradients(Unit& unit, const Visit& visit) {
  if (unit.gradient_empty) return;
  const FlagScope in_use(in_use_);
  Streams streams(*this, unit, Streams::Of::kGradients);
  for (const TrainableParameter& parameter : unit.trainables()) {
    if (!parameter.has_gradient) continue;
    const auto index = static_cast<std::size_t>(parameter.layout - unit.layout().parameters.data());
    torch::Tensor values = torch::empty(parameter.layout->shape, torch::kFloat32);
    streams.read(index, numbers_of(values));
    visit(index, values);
  }
}

}  // namespace strata::zero3
