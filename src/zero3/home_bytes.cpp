#include "zero3/home_bytes.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/tiering/start_transfer.h"

namespace strata::zero3 {
namespace {

using tiering::ByteRange;
using tiering::HomeTransfer;

/// A buffer with a piece of the home, on its way in or out.
struct Piece {
  ByteRange range;
  std::span<std::byte> buffer;
  HomeTransfer transfer;
};

/// The pieces of a home, each of as many chunks as the smallest buffer holds.
class Pieces {
 public:
  Pieces(std::uint64_t bytes, const StatePassage& passage,
         std::span<const std::span<std::byte>> buffers)
      : bytes_(bytes) {
    std::uint64_t smallest = buffers.empty() ? 0 : buffers.front().size();
    for (const auto& buffer : buffers) smallest = std::min<std::uint64_t>(smallest, buffer.size());
    piece_bytes_ = smallest / passage.chunk_bytes * passage.chunk_bytes;
    STRATA_CHECK(piece_bytes_ > 0, std::to_string(smallest) + " bytes of buffers for chunks of " +
                                       std::to_string(passage.chunk_bytes));
  }
  [[nodiscard]] bool is_left() const { return next_ < bytes_; }
  [[nodiscard]] ByteRange next() const { return {next_, std::min(piece_bytes_, bytes_ - next_)}; }
  void advance() { next_ += next().bytes; }

 private:
  std::uint64_t bytes_, piece_bytes_ = 0, next_ = 0;
};

}  // namespace

void read_home(const tiering::StateHome& home, std::uint64_t bytes, const StatePassage& passage,
               std::span<const std::span<std::byte>> buffers, const BytesVisit& visit) {
  if (bytes == 0) return;
  if (!home.is_elsewhere()) {
    visit(0, home.memory.first(bytes));
    return;
  }
  Pieces pieces(bytes, passage, buffers);
  std::deque<std::span<std::byte>> free(buffers.begin(), buffers.end());
  std::deque<Piece> under_way;  // in the order of the home
  const auto start = [&] {
    return tiering::fetch_home(passage.places, home, pieces.next(), free.front());
  };
  while (pieces.is_left() || !under_way.empty()) {
    while (pieces.is_left() && !free.empty()) {
      std::optional<HomeTransfer> transfer =
          under_way.empty() ? start_transfer(passage.places.store, start) : start();
      if (!transfer) break;  // not now: there are others to wait for
      under_way.push_back({pieces.next(), free.front(), *std::move(transfer)});
      free.pop_front();
      pieces.advance();
    }
    Piece& oldest = under_way.front();
    oldest.transfer.wait();
    visit(oldest.range.offset, oldest.buffer.first(oldest.range.bytes));
    free.push_back(oldest.buffer);
    under_way.pop_front();
  }
}

void write_home(const tiering::StateHome& home, std::uint64_t bytes, const StatePassage& passage,
                std::span<const std::span<std::byte>> buffers, const BytesFill& fill) {
  if (bytes == 0) return;
  if (!home.is_elsewhere()) {
    fill(0, home.memory.first(bytes));
    return;
  }
  std::deque<std::span<std::byte>> free(buffers.begin(), buffers.end());
  std::deque<Piece> under_way;
  const auto wait_for_oldest = [&] {
    under_way.front().transfer.wait();
    free.push_back(under_way.front().buffer);
    under_way.pop_front();
  };
  for (Pieces pieces(bytes, passage, buffers); pieces.is_left(); pieces.advance()) {
    if (free.empty()) wait_for_oldest();
    const ByteRange range = pieces.next();
    const std::span<std::byte> buffer = free.front();
    fill(range.offset, buffer.first(range.bytes));
    const auto start = [&] { return tiering::flush_home(passage.places, home, range, buffer); };
    std::optional<HomeTransfer> transfer = start();
    while (!transfer && !under_way.empty()) {
      wait_for_oldest();
      transfer = start();
    }
    if (!transfer) transfer = start_transfer(passage.places.store, start);
    under_way.push_back({range, buffer, *std::move(transfer)});
    free.pop_front();
  }
  while (!under_way.empty()) wait_for_oldest();
}

}  // namespace strata::zero3
