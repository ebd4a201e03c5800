#include "zero3/gradient_coordinator.h"

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/movement.h"
#include "zero3/reduce.h"
#include "zero3/start_transfer.h"

namespace strata::zero3 {

namespace {

/// Waits for a movement, counted as standing still for `hop`.
void wait_for(tiering::Transfer& transfer, Hop hop, Counters& counters) {
  ScopedTimer waiting(counters, hop, ScopedTimer::Kind::kWait);
  transfer.wait();
}

}  // namespace

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
  if (vector.states.gradient.extent) settle();  // it may still be on its way from the last time
  const std::uint64_t width = weight_bytes(vector.format.precision);
  const std::uint64_t bucket_elements = slots_.slot_bytes() / sizeof(float);
  vector.gradient_squares = {};
  for (std::uint64_t begin = 0; begin < vector.count; begin += bucket_elements) {
    const std::uint64_t count = std::min(bucket_elements, vector.count - begin);
    const std::span<std::byte> bucket = bucket_.first(count * width);
    reduce(unit, vector, gradients, begin, bucket, counters_);
    tiering::PinnedSlot slot = acquire_slot();
    const std::span<std::byte> piece = slot.bytes().first(bucket.size());
    tiering::drain(bucket, piece, counters_);
    add_piece(vector, unit.gradient_empty, begin, count, piece);
  }
}

void GradientCoordinator::add_piece(FlatVector& vector, bool is_first, std::uint64_t begin,
                                    std::uint64_t count, std::span<std::byte> piece) {
  const optim_cpu::StateHome& home = vector.states.gradient;
  if (home.extent) {
    add_piece_on_nvme(vector, is_first, begin, count, piece);
    return;
  }
  const std::uint64_t width =
      state_bytes(vector.format, StateKind::kGradient, vector.states.gradient_fp32);
  add(vector, is_first, count, piece, home.memory.data() + begin * width);
}

void GradientCoordinator::add_piece_on_nvme(FlatVector& vector, bool is_first, std::uint64_t begin,
                                            std::uint64_t count, std::span<std::byte> piece) {
  const std::uint64_t width =
      state_bytes(vector.format, StateKind::kGradient, vector.states.gradient_fp32);
  const tiering::Extent extent = *vector.states.gradient.extent;
  const tiering::ByteRange range{begin * width, count * width};
  tiering::PinnedSlot home = acquire_slot();
  if (!is_first) {
    tiering::Transfer arriving = start_transfer(
        *store_, [&] { return tiering::fetch(*store_, extent, range, home.bytes()); });
    wait_for(arriving, Hop::kFetch, counters_);
  }
  add(vector, is_first, count, piece, home.bytes().data());
  tiering::Transfer leaving =
      start_transfer(*store_, [&] { return tiering::flush(*store_, extent, range, home.bytes()); });
  writing_.push_back({std::move(home), std::move(leaving)});
}

void GradientCoordinator::add(FlatVector& vector, bool is_first, std::uint64_t count,
                              std::span<std::byte> piece, std::byte* home) {
  ScopedTimer busy(counters_, Hop::kDrain, ScopedTimer::Kind::kBusy);
  vector.gradient_squares.add(optim_cpu::accumulate_gradient(threads_, vector.format.precision,
                                                             vector.states.gradient_fp32, is_first,
                                                             count, piece.data(), home));
}

tiering::PinnedSlot GradientCoordinator::acquire_slot() {
  while (true) {
    if (auto slot = slots_.try_acquire()) return std::move(*slot);
    wait_for_oldest();
  }
}

void GradientCoordinator::wait_for_oldest() {
  STRATA_CHECK(!writing_.empty(), "no slot for gradients and none on its way");
  Writing oldest = std::move(writing_.front());
  writing_.pop_front();
  wait_for(oldest.transfer, Hop::kFlush, counters_);
}

void GradientCoordinator::settle() {
  while (!writing_.empty()) wait_for_oldest();
}

}  // namespace strata::zero3
