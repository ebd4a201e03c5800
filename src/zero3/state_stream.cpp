#include "zero3/state_stream.h"

#include <algorithm>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/start_transfer.h"

namespace strata::zero3 {

namespace {

/// The number of elements whose weight and master are whole chunks.
std::uint64_t piece_elements(const StateFormat& format, std::uint64_t chunk_bytes, bool frozen) {
  const std::uint64_t weight = state_bytes(format, StateKind::kWeight);
  const std::uint64_t master = state_bytes(format, StateKind::kMaster);
  return chunk_bytes / (frozen || master == 0 ? weight : std::min(weight, master));
}

}  // namespace

std::uint64_t MasterStream::weight_staging_bytes(const StateFormat& format,
                                                 std::uint64_t chunk_bytes, bool frozen) {
  return piece_elements(format, chunk_bytes, frozen) * state_bytes(format, StateKind::kWeight);
}

std::uint64_t MasterStream::master_staging_bytes(const StateFormat& format,
                                                 std::uint64_t chunk_bytes) {
  return piece_elements(format, chunk_bytes, /*frozen=*/false) *
         state_bytes(format, StateKind::kMaster);
}

MasterStream::MasterStream(const StateFormat& format, std::uint64_t count,
                           const tiering::StateHome& weight, const tiering::StateHome& master,
                           const StatePassage& passage, const StagingBuffers& staging)
    : format_(format),
      count_(count),
      weight_{&weight, state_bytes(format, StateKind::kWeight), staging.weight},
      master_{&master, state_bytes(format, StateKind::kMaster), staging.master},
      places_(passage.places),
      piece_elements_(weight.is_elsewhere() || master.is_elsewhere()
                          ? piece_elements(format, passage.chunk_bytes, !master_.exists())
                          : std::max<std::uint64_t>(count_, 1)),
      piece_begin_(count_) {}

std::uint64_t MasterStream::piece_end() const {
  return std::min(piece_begin_ + piece_elements_, count_);
}

std::byte* MasterStream::data(const Home& home, std::uint64_t element) const {
  if (!home.exists()) return nullptr;
  return home.home->is_elsewhere()
             ? home.staging.data() + (element - piece_begin_) * home.element_bytes
             : home.home->memory.data() + element * home.element_bytes;
}

void MasterStream::fetch(const Home& home) const {
  if (!home.home->is_elsewhere()) return;
  start_transfer(places_.store, [&] {
    return tiering::fetch_home(places_, *home.home, range_of(home), home.staging);
  }).wait();
}

void MasterStream::flush(const Home& home) const {
  if (!home.home->is_elsewhere()) return;
  start_transfer(places_.store, [&] {
    return tiering::flush_home(places_, *home.home, range_of(home), home.staging);
  }).wait();
}

tiering::ByteRange MasterStream::range_of(const Home& home) const {
  return {piece_begin_ * home.element_bytes, (piece_end() - piece_begin_) * home.element_bytes};
}

void MasterStream::turn_to(std::uint64_t piece) {
  if (piece == piece_begin_) return;
  flush();
  piece_begin_ = piece;
  fetch(weight_);
  fetch(master_);
}

void MasterStream::flush() {
  if (changed_) {
    flush(weight_);
    flush(master_);
  }
  changed_ = false;
}

template <class Visit>
void MasterStream::for_each_piece(std::uint64_t begin, std::uint64_t count, const Visit& visit) {
  const std::uint64_t end = begin + count;
  STRATA_CHECK(end <= count_, std::to_string(end) + " of " + std::to_string(count_));
  while (begin < end) {
    turn_to(begin / piece_elements_ * piece_elements_);
    const std::uint64_t part = std::min(end, piece_end()) - begin;
    visit(begin, part, data(weight_, begin), data(master_, begin));
    begin += part;
  }
}

void MasterStream::read(std::uint64_t begin, std::span<float> masters) {
  for_each_piece(begin, masters.size(), [&](auto at, auto part, auto* weight, auto* master) {
    optim_cpu::join_master(format_, weight, master, masters.subspan(at - begin, part));
  });
}

void MasterStream::read_weights(std::uint64_t begin, std::span<float> weights) {
  for_each_piece(begin, weights.size(), [&](auto at, auto part, auto* weight, auto*) {
    optim_cpu::join_master(format_, weight, nullptr, weights.subspan(at - begin, part));
  });
}

void MasterStream::write(std::uint64_t begin, std::span<const float> masters) {
  for_each_piece(begin, masters.size(), [&](auto at, auto part, auto* weight, auto* master) {
    optim_cpu::split_master(format_, masters.subspan(at - begin, part), weight, master);
    changed_ = true;
  });
}

}  // namespace strata::zero3
