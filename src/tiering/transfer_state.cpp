#include "tiering/transfer_state.h"

#include <algorithm>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {
namespace detail {
namespace {

[[noreturn]] void fail_range(Hop hop, const ExtentRecord& extent, ByteRange range,
                             const std::string& why) {
  throw UsageError(std::string(name_of(hop)) + " of " + extent.name() + ": bytes [" +
                   std::to_string(range.offset) + ", +" + std::to_string(range.bytes) + ") of " +
                   std::to_string(extent.bytes()) + ": " + why);
}

ChunkSpan chunks_of(Hop hop, const ExtentRecord& extent, ByteRange range) {
  const std::uint64_t chunk_bytes = extent.chunk_bytes();
  if (range.bytes == 0 || range.offset >= extent.bytes() ||
      range.bytes > extent.bytes() - range.offset) {
    fail_range(hop, extent, range, "an empty range, or one that leaves the extent");
  }
  const std::uint64_t end = range.offset + range.bytes;
  if (range.offset % chunk_bytes != 0 || (end % chunk_bytes != 0 && end != extent.bytes())) {
    fail_range(hop, extent, range,
               "start and end must be multiples of the chunk, " + std::to_string(chunk_bytes) +
                   " bytes, or the end of the extent");
  }
  return {range.offset / chunk_bytes, ceil_div(end, chunk_bytes)};
}

void check_buffer(Hop hop, const ExtentRecord& extent, ByteRange range,
                  std::span<const std::byte> buffer, std::uint64_t bytes_needed) {
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(buffer.data()) % kDiskBlock == 0;
  if (buffer.size() >= bytes_needed && is_aligned) return;
  fail_range(hop, extent, range,
             "the buffer has " + std::to_string(buffer.size()) + " bytes; it needs " +
                 std::to_string(bytes_needed) + ", aligned to " + std::to_string(kDiskBlock));
}

}  // namespace

std::uint64_t StoreParts::buffer_bytes(std::uint64_t bytes) const noexcept {
  return round_up(bytes, alignment);
}

std::span<std::byte> TransferState::chunk_in_buffer(std::uint64_t chunk) const noexcept {
  const std::uint64_t chunk_bytes = extent->chunk_bytes();
  const std::uint64_t offset = (chunk - chunks.first) * chunk_bytes;
  return buffer.subspan(offset, std::min(chunk_bytes, range.bytes - offset));
}

// ---- check out ---------------------------------------------------------------------------------

Transfers::Transfers(StoreParts& store, std::size_t count) : store_(store), states_(count) {
  at_rest_.reserve(count);
  for (TransferState& state : states_) {
    state.owner = this;
    state.store = &store;
    at_rest_.push_back(&state);
  }
}

bool Transfers::is_exhausted() const noexcept {
  const std::lock_guard lock(store_.mutex);
  return at_rest_.empty();
}

TransferLease Transfers::take_one() {
  const std::lock_guard lock(store_.mutex);
  if (at_rest_.empty()) return nullptr;
  TransferLease transfer(at_rest_.back());
  at_rest_.pop_back();
  return transfer;
}

TransferLease Transfers::check_out(Hop hop, ExtentRecord& extent, ByteRange range,
                                   std::span<std::byte> buffer) {
  const ChunkSpan chunks = chunks_of(hop, extent, range);
  const std::uint64_t bytes = store_.buffer_bytes(range.bytes);
  check_buffer(hop, extent, range, buffer, bytes);
  if (hop == Hop::kFetch) {
    extent.require_fetchable(chunks);
  } else {
    extent.require_flushable(chunks);
  }

  TransferLease transfer = take_one();
  if (transfer == nullptr) return nullptr;
  transfer->hop = hop;
  transfer->extent = &extent;
  transfer->chunks = chunks;
  transfer->range = range;
  transfer->buffer = buffer.first(bytes);
  transfer->tickets.reserve(chunks.last - chunks.first);
  if (hop == Hop::kFlush && store_.files.size() > 1) {
    transfer->moves.reserve(chunks.last - chunks.first);
  }
  return transfer;
}

// ---- start ------------------------------------------------------------------------------------

std::optional<Transfer> Transfers::start(Hop hop, ExtentRecord& extent, ByteRange range,
                                         std::span<std::byte> buffer) {
  TransferLease transfer = check_out(hop, extent, range, buffer);
  if (transfer == nullptr) return std::nullopt;
  const bool is_started = hop == Hop::kFetch ? start_fetch(*transfer) : start_flush(*transfer);
  if (!is_started) return std::nullopt;
  return Transfer(transfer.release());
}

bool TransferState::submit(aio::OpKind kind, ChunkSpan some) {
  const std::uint64_t chunk_bytes = extent->chunk_bytes();
  while (some.first < some.last) {
    const ChunkSpan piece = extent->leading_piece(some);
    const ChunkPlace place = extent->place_of(piece.first);
    const std::uint64_t begin = (piece.first - chunks.first) * chunk_bytes;
    const std::uint64_t bytes =
        std::min((piece.last - piece.first) * chunk_bytes, buffer.size() - begin);
    const aio::Operation operation{.kind = kind,
                                   .file = &store->files[place.file],
                                   .offset = place.offset,
                                   .buffer = buffer.subspan(begin, bytes),
                                   .meter = store->stripes.meter(place.file),
                                   .times = store->counters.timeline() ? &times : nullptr};
    if (!submit(operation)) return false;
    some.first = piece.last;
  }
  return true;
}

bool TransferState::submit(const aio::Operation& operation) {
  if (error) return true;
  aio::Submitter& queue = store->queue;
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

// ---- finish -----------------------------------------------------------------------------------

bool TransferState::done() const noexcept {
  return std::all_of(tickets.begin() + static_cast<std::ptrdiff_t>(settled), tickets.end(),
                     [](const aio::IoTicket& ticket) { return ticket.done(); });
}

void TransferState::settle_next() {
  try {
    tickets[settled++].wait();
  } catch (const Error&) {
    if (!error) error = std::current_exception();
  }
}

/// Records the time that its requests took. It was over before anybody waited for it, or long
/// before.
void TransferState::record() const {
  Timeline* const timeline = store->counters.timeline();
  if (timeline == nullptr || times.last == Time{}) return;
  const MemoryRange memory = memory_range(std::span(buffer).first(range.bytes));
  timeline->add({.kind = SpanKind::kTransfer,
                 .hop = hop,
                 .name = extent->name(),
                 .slot = owner->slot_of(*this),
                 .bytes = range.bytes,
                 .begin = times.first,
                 .end = times.last,
                 .writes = hop == Hop::kFetch ? memory : MemoryRange{}});
}

void TransferState::finish() {
  const TransferLease lease(this);
  while (settled < tickets.size()) settle_next();
  record();
  if (hop == Hop::kFetch) {
    end_fetch(*this);
  } else {
    end_flush(*this);
  }
  if (error) std::rethrow_exception(error);
  if (hop == Hop::kFetch) verify_fetch(*this);
  store->counters.add_moved(hop, range.bytes);
}

// The vectors keep their memory: a transfer allocates nothing once it has run.
void PutToRest::operator()(TransferState* transfer) const noexcept {
  transfer->tickets.clear();
  end_moves(*transfer, /*arrived=*/false);  // none, unless it was not started after all
  transfer->settled = 0;
  transfer->times = {};
  transfer->error = nullptr;
  const std::lock_guard lock(transfer->store->mutex);
  transfer->owner->at_rest_.push_back(transfer);
}

}  // namespace detail

// ---- the caller's handle ----------------------------------------------------------------------

Transfer::Transfer(Transfer&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}

Transfer& Transfer::operator=(Transfer&& other) noexcept {
  std::swap(state_, other.state_);
  Transfer(std::move(other));  // waits for the old transfer now
  return *this;
}

Transfer::~Transfer() {
  if (state_ == nullptr) return;
  try {
    wait();
  } catch (const Error&) {
    // Dropping a transfer drops its outcome; the buffer is the caller's again, and that is all.
  }
}

bool Transfer::done() const noexcept { return state_ == nullptr || state_->done(); }

void Transfer::wait() {
  if (state_ == nullptr) throw UsageError("a transfer was waited for twice");
  std::exchange(state_, nullptr)->finish();
}

}  // namespace strata::tiering
