#include "zero3/gradient_coordinator.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/movement.h"
#include "strata/tiering/start_transfer.h"
#include "zero3/add_straight.h"
#include "zero3/device_tensor.h"
#include "zero3/reduce.h"
#include "zero3/reduction.h"

namespace strata::zero3 {

namespace {

/// Waits for a movement, counted as standing still for `hop`.
template <class Movement>
void wait_for(Movement& movement, Hop hop, Counters& counters, std::string_view unit = {}) {
  const ScopedTimer waiting(counters, hop, ScopedTimer::Kind::kWait, unit);
  movement.wait();
}

std::uint64_t gradient_bytes(const FlatVector& vector) {
  return state_bytes(vector.format, StateKind::kGradient, vector.states.gradient_fp32);
}

}  // namespace

// Pieces leave slots for the homes that they are added to, where those come from the disk: half of
// them at most are theirs.
GradientCoordinator::GradientCoordinator(const Places& places, optim_cpu::ComputeThreads& threads,
                                         Counters& counters)
    : places_(places),
      leaving_max_(
          std::max<std::size_t>(1, places.slots.count() / (places.store != nullptr ? 2 : 1))),
      threads_(threads),
      counters_(counters) {}

void GradientCoordinator::accumulate(Unit& unit, torch::autograd::variable_list gradients) {
  accumulate(unit, std::move(gradients), /*are_sums=*/false);
}

void GradientCoordinator::accumulate_sums(Unit& unit, torch::autograd::variable_list sums) {
  sums.resize(unit.trainables().size());
  accumulate(unit, std::move(sums), /*are_sums=*/true);
}

void GradientCoordinator::accumulate(Unit& unit, torch::autograd::variable_list gradients,
                                     bool are_sums) {
  const std::vector<bool> with_gradient = with_gradients(gradients);
  if (std::find(with_gradient.begin(), with_gradient.end(), true) == with_gradient.end()) return;
  for (std::size_t i = 0; i < with_gradient.size(); ++i) {
    if (with_gradient[i]) unit.trainables()[i].has_gradient = true;
  }
  ++contributions_;
  while (!pieces_.empty()) add_oldest_piece();  // while the device computes these
  for (FlatVector& vector : unit.vectors()) {
    if (!vector.trains()) continue;
    accumulate(unit, vector, gradients, are_sums ? Precision::kFp32 : vector.format.precision);
  }
  unit.gradient_empty = false;
}

std::vector<bool> GradientCoordinator::with_gradients(
    const torch::autograd::variable_list& gradients) const {
  std::vector<bool> defined;
  for (const torch::Tensor& gradient : gradients) defined.push_back(gradient.defined());
  Ranks& others = places_.exchange.ranks();
  if (others.size() == 1) return defined;
  const auto ranks = static_cast<std::size_t>(others.size());
  std::vector<std::byte> of_all(ranks * defined.size());
  const std::size_t own = static_cast<std::size_t>(others.rank()) * defined.size();
  for (std::size_t i = 0; i < defined.size(); ++i) {
    of_all[own + i] = static_cast<std::byte>(gradients[i].defined());
  }
  others.begin_all_gather(of_all).wait();
  for (std::size_t i = 0; i < of_all.size(); ++i) {
    if (of_all[i] != std::byte{0}) defined[i % defined.size()] = true;
  }
  return defined;
}

void GradientCoordinator::accumulate(const Unit& unit, FlatVector& vector,
                                     torch::autograd::variable_list& gradients,
                                     Precision precision) {
  finish(vector);
  vector.gradient_squares = {};
  if (places_.buckets.empty()) {
    accumulate_straight(unit, vector, gradients, precision);
    return;
  }
  const auto ranks = static_cast<std::uint64_t>(places_.exchange.ranks().size());
  const std::uint64_t bucket_elements = places_.slots.slot_bytes() / sizeof(float);
  const std::uint64_t elements = vector.map.shard_count();
  for (std::uint64_t begin = 0; begin < elements; begin += bucket_elements) {
    const std::uint64_t count = std::min(bucket_elements, elements - begin);
    while (pieces_.size() >= places_.bucket_count) add_oldest_piece();
    const tiering::DeviceSpan bucket = next_bucket().first(ranks * count * weight_bytes(precision));
    const torch::Tensor packed = tensor_over(bucket, scalar_type(precision), places_.torch_device);
    for (std::uint64_t rank = 0; rank < ranks; ++rank) {
      const std::uint64_t first = rank * vector.map.shard_count() + begin;
      pack(unit, stretches_of(unit, vector, gradients, first, first + count),
           packed.narrow(0, static_cast<std::int64_t>(rank * count),
                         static_cast<std::int64_t>(count)),
           counters_);
    }
    if (ranks > 1) {
      exchange(vector, precision, unit.gradient_empty, begin, count, bucket);
      continue;
    }
    release(unit, vector, gradients, begin + count);
    pieces_.push_back({.vector = &vector,
                       .precision = precision,
                       .is_first = unit.gradient_empty,
                       .begin = begin,
                       .count = count,
                       .bucket = bucket,
                       .packed = places_.device.record(tiering::StreamRole::kCompute)});
    drain_what_can();
  }
  release(unit, vector, gradients, vector.map.padded_count());
}

/// A home in memory is added to as a whole, one on nvme a slot at a time.
void GradientCoordinator::accumulate_straight(const Unit& unit, FlatVector& vector,
                                              torch::autograd::variable_list& gradients,
                                              Precision precision) {
  places_.device.record(tiering::StreamRole::kCompute).synchronize(tiering::kDevicePatience);
  const std::uint64_t elements = vector.shard.count();
  const std::uint64_t elements_at_once = vector.states.gradient.extent
                                             ? places_.slots.slot_bytes() / gradient_bytes(vector)
                                             : elements;
  for (std::uint64_t begin = 0; begin < elements; begin += elements_at_once) {
    const std::uint64_t count = std::min(elements_at_once, elements - begin);
    std::vector<GradientStretch> stretches =
        stretches_of(unit, vector, gradients, begin, begin + count);
    at_home(vector, unit.gradient_empty, begin, count, [&](std::span<std::byte> home) {
      const std::uint64_t bytes = count * weight_bytes(precision);
      ScopedTimer busy(counters_, Hop::kDrain, ScopedTimer::Kind::kBusy, vector.states.name, bytes);
      busy.reads(memory_range(home));
      vector.gradient_squares.add(add_straight(stretches,
                                               {.precision = precision,
                                                .fp32 = vector.states.gradient_fp32,
                                                .first = unit.gradient_empty,
                                                .bytes = home},
                                               threads_));
      counters_.add_moved(Hop::kDrain, bytes);
    });
    stretches.clear();
    release(unit, vector, gradients, begin + count);
  }
}

void GradientCoordinator::exchange(FlatVector& vector, Precision precision, bool is_first,
                                   std::uint64_t begin, std::uint64_t count,
                                   tiering::DeviceSpan bucket) {
  Reduction reduction = places_.exchange.begin_reduction(bucket);
  const std::uint64_t own = vector.map.shard(places_.exchange.ranks().rank()).begin;
  const std::uint64_t place = own - vector.shard.begin + begin;  // in the home
  at_home(vector, is_first, place, count, [&](std::span<std::byte> home) {
    const ScopedTimer waiting(counters_, Hop::kReduce, ScopedTimer::Kind::kWait,
                              vector.states.name);
    vector.gradient_squares.add(reduction.finish({.precision = precision,
                                                  .fp32 = vector.states.gradient_fp32,
                                                  .first = is_first,
                                                  .bytes = home},
                                                 threads_));
  });
  if (vector.is_whole()) share_sums(vector, begin, count);
}

void GradientCoordinator::share_sums(const FlatVector& vector, std::uint64_t begin,
                                     std::uint64_t count) {
  const ScopedTimer waiting(counters_, Hop::kReduce, ScopedTimer::Kind::kWait, vector.states.name);
  const std::span<std::byte> home = vector.states.gradient.memory;
  const std::uint64_t width = gradient_bytes(vector), bytes = count * width;
  const int own = places_.exchange.ranks().rank();
  const auto piece_of = [&](int rank) {
    return home.subspan((vector.map.shard(rank).begin + begin) * width, bytes);
  };
  const std::span<const std::byte> of_all = places_.exchange.gather_sums(piece_of(own));
  for (int rank = 0; rank < places_.exchange.ranks().size(); ++rank) {
    if (rank == own) continue;
    std::ranges::copy(of_all.subspan(static_cast<std::uint64_t>(rank) * bytes, bytes),
                      piece_of(rank).begin());
  }
}

/// Waits for the last additions to the vector, which may still be on their way.
void GradientCoordinator::finish(const FlatVector& vector) {
  const auto is_of_vector = [&](const auto& part) { return part.vector == &vector; };
  while (std::ranges::any_of(pieces_, is_of_vector)) add_oldest_piece();
  while (std::ranges::any_of(writing_, is_of_vector)) wait_for_oldest_write();
}

/// A bucket is packed anew when the host has seen its piece leave.
tiering::DeviceSpan GradientCoordinator::next_bucket() {
  const std::uint64_t bytes = places_.buckets.bytes() / places_.bucket_count;
  const std::size_t bucket = std::exchange(bucket_, (bucket_ + 1) % places_.bucket_count);
  return places_.buckets.subspan(bucket * bytes, bytes);
}

/// Lets the first pieces leave the device, as many as have slots.
void GradientCoordinator::drain_what_can() {
  std::size_t leaving = 0;
  for (Piece& piece : pieces_) {
    if (leaving++ == leaving_max_) return;
    if (piece.drained) continue;
    std::optional<tiering::StagingSlot> slot = places_.slots.try_acquire();
    if (!slot) return;
    drain(piece, *std::move(slot));
  }
}

void GradientCoordinator::drain(Piece& piece, tiering::StagingSlot slot) {
  tiering::Device& device = places_.device;
  device.wait(tiering::StreamRole::kDrain, piece.packed);
  piece.drained.emplace(
      tiering::drain(device, piece.bucket, slot.bytes().first(piece.bucket.bytes()), counters_));
  piece.slot.emplace(std::move(slot));
}

void GradientCoordinator::add_oldest_piece() {
  if (!pieces_.front().drained) drain(pieces_.front(), acquire_slot());
  Piece piece = std::move(pieces_.front());
  pieces_.pop_front();
  FlatVector& vector = *piece.vector;
  wait_for(*piece.drained, Hop::kDrain, counters_, vector.states.name);
  at_home(vector, piece.is_first, piece.begin, piece.count, [&](std::span<std::byte> home) {
    ScopedTimer busy(counters_, Hop::kDrain, ScopedTimer::Kind::kBusy, vector.states.name);
    busy.reads(memory_range(home));
    vector.gradient_squares.add(optim_cpu::accumulate_gradient(
        threads_, piece.precision, vector.states.gradient_fp32, piece.is_first, piece.count,
        piece.slot->bytes().data(), home.data()));
  });
  piece.slot.reset();
  drain_what_can();
}

template <class Add>
void GradientCoordinator::at_home(const FlatVector& vector, bool is_first, std::uint64_t begin,
                                  std::uint64_t count, const Add& add) {
  const tiering::StateHome& home = vector.states.gradient;
  const std::uint64_t width = gradient_bytes(vector);
  const tiering::ByteRange range{begin * width, count * width};
  if (!home.extent) {
    add(home.memory.subspan(range.offset, range.bytes));
    return;
  }
  tiering::ShardStore& store = *places_.store;
  tiering::StagingSlot slot = acquire_slot();
  if (!is_first) {
    tiering::Transfer arriving = start_transfer(
        &store, [&] { return tiering::fetch(store, *home.extent, range, slot.bytes()); });
    wait_for(arriving, Hop::kFetch, counters_, vector.states.name);
  }
  add(slot.bytes().first(range.bytes));
  tiering::Transfer leaving = start_transfer(
      &store, [&] { return tiering::flush(store, *home.extent, range, slot.bytes()); });
  writing_.push_back({&vector, std::move(slot), std::move(leaving)});
}

tiering::StagingSlot GradientCoordinator::acquire_slot() {
  while (true) {
    if (auto slot = places_.slots.try_acquire()) return std::move(*slot);
    wait_for_oldest_write();
  }
}

void GradientCoordinator::wait_for_oldest_write() {
  STRATA_CHECK(!writing_.empty(), "no slot for gradients and none on its way");
  Writing oldest = std::move(writing_.front());
  writing_.pop_front();
  wait_for(oldest.transfer, Hop::kFlush, counters_);
}

bool GradientCoordinator::are_behind() const {
  return places_.device.properties().copies_are_asynchronous &&
         places_.exchange.ranks().size() == 1;
}

void GradientCoordinator::bring_home(const Unit& unit) {
  for (const FlatVector& vector : unit.vectors()) finish(vector);
}

void GradientCoordinator::settle() {
  while (!pieces_.empty()) add_oldest_piece();
  while (!writing_.empty()) wait_for_oldest_write();
}

}  // namespace strata::zero3
