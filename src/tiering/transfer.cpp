#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "tiering/transfer_state.h"

namespace strata::tiering {
namespace detail {

std::span<std::byte> TransferState::chunk_in_buffer(std::uint64_t chunk) const noexcept {
  const std::uint64_t chunk_bytes = extent->chunk_bytes();
  const std::uint64_t offset = (chunk - chunks.first) * chunk_bytes;
  return buffer.subspan(offset, std::min(chunk_bytes, range.bytes - offset));
}

bool TransferState::submit(aio::Submitter& queue, const aio::Operation& operation) {
  if (error) return true;
  try {
    std::optional<aio::IoTicket> ticket = queue.try_submit(operation);
    if (!ticket && tickets.empty()) return false;
    while (!ticket && settled < tickets.size()) {
      settle_next();
      ticket = queue.try_submit(operation);
    }
    tickets.push_back(ticket ? std::move(*ticket) : queue.submit(operation));
  } catch (const Error&) {
    error = std::current_exception();
  }
  return true;
}

bool TransferState::done() const noexcept {
  return std::all_of(tickets.begin() + static_cast<std::ptrdiff_t>(settled), tickets.end(),
                     [](const aio::IoTicket& ticket) { return ticket.done(); });
}

void TransferState::begin_moves() {
  for (std::uint64_t chunk = chunks.first; chunk < chunks.last; ++chunk) {
    if (!extent->is_whole(chunk)) continue;
    const ChunkPlace from = extent->place_of(chunk);
    const auto to = stripes->move(extent->first_position() + chunk, from);
    if (!to) continue;
    extent->set_place(chunk, *to);
    moves.push_back({chunk, from});
  }
}

void TransferState::end_moves(bool arrived) {
  for (const Move& move : moves) {
    if (arrived) {
      stripes->release(move.from);
    } else {
      stripes->release(extent->place_of(move.chunk));
      extent->set_place(move.chunk, move.from);
    }
  }
  moves.clear();
}

void TransferState::settle_next() {
  try {
    tickets[settled++].wait();
  } catch (const Error&) {
    if (!error) error = std::current_exception();
  }
}

void TransferState::finish() {
  const TransferLease lease(this);
  while (settled < tickets.size()) settle_next();
  const bool fetching = hop == Hop::kFetch;
  if (fetching) {
    extent->end_fetch(chunks);
  } else {
    end_moves(error == nullptr);
    extent->end_flush(chunks);
  }
  if (error) std::rethrow_exception(error);
  if (fetching) verify_fetch(*this);
  counters->add_moved(hop, range.bytes);
}

TransferPool::TransferPool(std::size_t count) : states_(count) {
  free_.reserve(count);
  for (TransferState& state : states_) {
    state.pool = this;
    free_.push_back(&state);
  }
}

TransferLease TransferPool::try_acquire() {
  if (free_.empty()) return nullptr;
  TransferLease lease(free_.back());
  free_.pop_back();
  return lease;
}

// The vectors keep their memory: a transfer allocates nothing once it has run.
void ReturnToPool::operator()(TransferState* state) const noexcept {
  state->tickets.clear();
  state->end_moves(/*arrived=*/false);  // none, unless its start was cut short by an exception
  state->settled = 0;
  state->error = nullptr;
  state->pool->free_.push_back(state);
}

}  // namespace detail

Transfer::Transfer(Transfer&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}

Transfer& Transfer::operator=(Transfer&& other) noexcept {
  std::swap(state_, other.state_);
  Transfer(std::move(other));  // what this one held is waited for now
  return *this;
}

Transfer::~Transfer() {
  if (state_ == nullptr) return;
  try {
    wait();
  } catch (const Error&) {
    // Whoever drops a transfer drops its outcome; the buffer is theirs again, and that is all.
  }
}

bool Transfer::done() const noexcept { return state_ == nullptr || state_->done(); }

void Transfer::wait() {
  if (state_ == nullptr) throw UsageError("a transfer was waited for twice");
  std::exchange(state_, nullptr)->finish();
}

}  // namespace strata::tiering
