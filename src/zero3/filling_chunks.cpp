#include "zero3/filling_chunks.h"

#include <algorithm>
#include <utility>

#include "strata/base/error.h"

namespace strata::zero3 {

FillingChunks::FillingChunks(const tiering::StateHome& home, std::uint64_t element_bytes,
                             std::uint64_t count, std::uint64_t chunk_bytes, WritesInFlight* writes)
    : home_(home),
      element_bytes_(element_bytes),
      count_(count),
      chunk_elements_(home.is_elsewhere() ? chunk_bytes / element_bytes : count),
      writes_(writes) {
  STRATA_CHECK(!home.is_elsewhere() || writes != nullptr, "no staging for a home elsewhere");
}

std::size_t FillingChunks::index_of(std::uint64_t element) const {
  return static_cast<std::size_t>((element - open_.front().elements.begin) / chunk_elements_);
}

tiering::ByteRange FillingChunks::bytes_of(ElementRange elements) const {
  return {elements.begin * element_bytes_, elements.count() * element_bytes_};
}

std::uint64_t FillingChunks::room_end(std::uint64_t begin) const {
  if (!home_.is_elsewhere()) return count_;
  return open_.empty() ? begin / chunk_elements_ * chunk_elements_ : open_.back().elements.end;
}

void FillingChunks::open_next(std::uint64_t begin, ElementRange written) {
  const std::uint64_t first = room_end(begin);
  const ElementRange elements{first, std::min(first + chunk_elements_, count_)};
  Chunk& chunk = open_.emplace_back(elements, writes_->take());
  if (written.begin <= elements.begin && elements.end <= written.end) return;
  std::ranges::fill(chunk.slot.bytes(), std::byte{0});
}

std::byte* FillingChunks::data(std::uint64_t element) const {
  if (!home_.exists()) return nullptr;
  if (!home_.is_elsewhere()) return home_.memory.data() + element * element_bytes_;
  const Chunk& chunk = open_[index_of(element)];
  return chunk.slot.bytes().data() + (element - chunk.elements.begin) * element_bytes_;
}

std::uint64_t FillingChunks::run_end(std::uint64_t element) const {
  return home_.is_elsewhere() ? open_[index_of(element)].elements.end : count_;
}

void FillingChunks::filled(ElementRange elements) {
  if (!home_.is_elsewhere()) return;
  while (elements.begin < elements.end) {
    Chunk& chunk = open_[index_of(elements.begin)];
    const std::uint64_t end = std::min(elements.end, chunk.elements.end);
    const std::uint64_t count = end - elements.begin;
    // A device's copies are ordered on the engine's thread; a full queue is waited for there.
    if (chunk.missing.fetch_sub(count, std::memory_order_acq_rel) == count && home_.extent) {
      chunk.is_sent = writes_->try_send(chunk.slot, home_, bytes_of(chunk.elements));
    }
    elements.begin = end;
  }
}

void FillingChunks::close_until(std::uint64_t end) {
  while (!open_.empty() && open_.front().elements.end <= end) {
    Chunk& chunk = open_.front();
    if (!chunk.is_sent) writes_->send(std::move(chunk.slot), home_, bytes_of(chunk.elements));
    open_.pop_front();
  }
}

}  // namespace strata::zero3
