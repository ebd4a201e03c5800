#include "zero3/gradient_coordinator.h"

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/movement.h"
#include "zero3/device_tensor.h"
#include "zero3/reduce.h"
#include "zero3/start_transfer.h"

namespace strata::zero3 {

namespace {

/// Waits for a movement, counted as standing still for `hop`.
template <class Movement>
void wait_for(Movement& movement, Hop hop, Counters& counters) {
  const ScopedTimer waiting(counters, hop, ScopedTimer::Kind::kWait);
  movement.wait();
}

std::uint64_t gradient_bytes(const FlatVector& vector) {
  return state_bytes(vector.format, StateKind::kGradient, vector.states.gradient_fp32);
}

}  // namespace

// Pieces leave slots for the homes that they are added to: half of them at most are theirs.
GradientCoordinator::GradientCoordinator(const Places& places, optim_cpu::ComputeThreads& threads,
                                         Counters& counters)
    : places_(places),
      pieces_max_(std::max<std::size_t>(1, places.slots.count() / 2)),
      threads_(threads),
      counters_(counters) {}

void GradientCoordinator::accumulate(Unit& unit, torch::autograd::variable_list gradients) {
  bool any = false;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) continue;
    unit.trainables()[i].has_gradient = true;
    any = true;
  }
  if (!any) return;
  for (FlatVector& vector : unit.vectors()) {
    if (vector.trains()) accumulate(unit, vector, gradients);
  }
  unit.gradient_empty = false;
}

void GradientCoordinator::accumulate(const Unit& unit, FlatVector& vector,
                                     torch::autograd::variable_list& gradients) {
  finish(vector);
  const std::uint64_t width = weight_bytes(vector.format.precision);
  const std::uint64_t bucket_elements = places_.slots.slot_bytes() / sizeof(float);
  vector.gradient_squares = {};
  for (std::uint64_t begin = 0; begin < vector.count; begin += bucket_elements) {
    const std::uint64_t count = std::min(bucket_elements, vector.count - begin);
    const tiering::DeviceSpan bucket = places_.bucket.first(count * width);
    places_.device.wait(tiering::StreamRole::kCompute, bucket_free_);
    reduce(unit, vector, gradients, begin,
           tensor_over(bucket, scalar_type(vector.format.precision), places_.torch_device),
           counters_);
    tiering::PinnedSlot slot = slot_for_piece();
    tiering::DeviceCopy drained = drain_bucket(bucket, slot.bytes().first(bucket.bytes()));
    pieces_.push_back(
        {&vector, unit.gradient_empty, begin, count, std::move(slot), std::move(drained)});
    if (!places_.device.properties().copies_are_asynchronous) add_oldest_piece();
  }
}

/// What was added to the vector the last time may still be on its way.
void GradientCoordinator::finish(const FlatVector& vector) {
  const auto is_of_vector = [&](const Piece& piece) { return piece.vector == &vector; };
  while (std::any_of(pieces_.begin(), pieces_.end(), is_of_vector)) add_oldest_piece();
  if (!vector.states.gradient.extent) return;
  while (!writing_.empty()) wait_for_oldest_write();
}

tiering::DeviceCopy GradientCoordinator::drain_bucket(tiering::DeviceSpan bucket,
                                                      std::span<std::byte> target) {
  tiering::Device& device = places_.device;
  device.wait(tiering::StreamRole::kDrain, device.record(tiering::StreamRole::kCompute));
  tiering::DeviceCopy drained = tiering::drain(device, bucket, target, counters_);
  bucket_free_ = drained.event();
  return drained;
}

void GradientCoordinator::add_oldest_piece() {
  Piece piece = std::move(pieces_.front());
  pieces_.pop_front();
  wait_for(piece.drained, Hop::kDrain, counters_);
  const FlatVector& vector = *piece.vector;
  const std::span<std::byte> bytes =
      piece.slot.bytes().first(piece.count * weight_bytes(vector.format.precision));
  if (vector.states.gradient.extent) {
    add_on_nvme(piece, bytes);
  } else {
    add(piece, bytes, vector.states.gradient.memory.data() + piece.begin * gradient_bytes(vector));
  }
}

void GradientCoordinator::add_on_nvme(const Piece& piece, std::span<std::byte> bytes) {
  const FlatVector& vector = *piece.vector;
  tiering::ShardStore& store = *places_.store;
  const tiering::Extent extent = *vector.states.gradient.extent;
  const std::uint64_t width = gradient_bytes(vector);
  const tiering::ByteRange range{piece.begin * width, piece.count * width};
  tiering::PinnedSlot home = slot_for_home();
  if (!piece.is_first) {
    tiering::Transfer arriving =
        start_transfer(&store, [&] { return tiering::fetch(store, extent, range, home.bytes()); });
    wait_for(arriving, Hop::kFetch, counters_);
  }
  add(piece, bytes, home.bytes().data());
  tiering::Transfer leaving =
      start_transfer(&store, [&] { return tiering::flush(store, extent, range, home.bytes()); });
  writing_.push_back({std::move(home), std::move(leaving)});
}

void GradientCoordinator::add(const Piece& piece, std::span<std::byte> bytes, std::byte* home) {
  const ScopedTimer busy(counters_, Hop::kDrain, ScopedTimer::Kind::kBusy);
  FlatVector& vector = *piece.vector;
  vector.gradient_squares.add(
      optim_cpu::accumulate_gradient(threads_, vector.format.precision, vector.states.gradient_fp32,
                                     piece.is_first, piece.count, bytes.data(), home));
}

tiering::PinnedSlot GradientCoordinator::slot_for_piece() {
  while (pieces_.size() >= pieces_max_) add_oldest_piece();
  while (true) {
    if (auto slot = places_.slots.try_acquire()) return std::move(*slot);
    if (pieces_.empty()) {
      wait_for_oldest_write();
    } else {
      add_oldest_piece();
    }
  }
}

tiering::PinnedSlot GradientCoordinator::slot_for_home() {
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

void GradientCoordinator::settle() {
  while (!pieces_.empty()) add_oldest_piece();
  while (!writing_.empty()) wait_for_oldest_write();
}

}  // namespace strata::zero3
