#include "tiering/extent_record.h"

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {
namespace {

[[noreturn]] void fail_overlap(std::string_view asked, const std::string& extent,
                               std::uint64_t chunk, std::string_view under_way) {
  throw UsageError(std::string(asked) + " of " + extent + ", chunk " + std::to_string(chunk) +
                   ": a " + std::string(under_way) +
                   " of it is under way; wait for that transfer first");
}

}  // namespace

ExtentRecord::ExtentRecord(std::uint32_t id, std::string_view name, std::uint64_t bytes,
                           std::uint64_t chunk_bytes, std::uint64_t first_position,
                           std::span<const ChunkPlace> places)
    : id_(id),
      name_(name),
      bytes_(bytes),
      chunk_bytes_(chunk_bytes),
      first_position_(first_position),
      chunks_(places.size()) {
  STRATA_CHECK(places.size() == ceil_div(bytes, chunk_bytes), std::to_string(places.size()));
  for (std::size_t i = 0; i < places.size(); ++i) chunks_[i].place = places[i];
}

ChunkPlace ExtentRecord::place_of(std::uint64_t chunk) const noexcept {
  return chunks_[chunk].place;
}

void ExtentRecord::set_place(std::uint64_t chunk, ChunkPlace place) noexcept {
  chunks_[chunk].place = place;
}

bool ExtentRecord::is_whole(std::uint64_t chunk) const noexcept {
  return chunk < bytes_ / chunk_bytes_;
}

ChunkSpan ExtentRecord::leading_piece(ChunkSpan chunks) const noexcept {
  std::uint64_t last = chunks.first + 1;
  while (last < chunks.last && place_of(last).file == place_of(last - 1).file &&
         place_of(last).offset == place_of(last - 1).offset + chunk_bytes_) {
    ++last;
  }
  return {chunks.first, last};
}

void ExtentRecord::require_fetchable(ChunkSpan chunks) const {
  for (std::uint64_t i = chunks.first; i < chunks.last; ++i) {
    if (chunks_[i].state == ChunkState::kFlushing) fail_overlap("fetch", name_, i, "flush");
  }
}

void ExtentRecord::begin_fetch(ChunkSpan chunks) {
  for (std::uint64_t i = chunks.first; i < chunks.last; ++i) ++chunks_[i].fetches;
}

void ExtentRecord::end_fetch(ChunkSpan chunks) {
  for (std::uint64_t i = chunks.first; i < chunks.last; ++i) --chunks_[i].fetches;
}

void ExtentRecord::require_flushable(ChunkSpan chunks) const {
  for (std::uint64_t i = chunks.first; i < chunks.last; ++i) {
    if (chunks_[i].state == ChunkState::kFlushing) fail_overlap("flush", name_, i, "flush");
    if (chunks_[i].fetches > 0) fail_overlap("flush", name_, i, "fetch");
  }
}

void ExtentRecord::begin_flush(ChunkSpan chunks) {
  for (std::uint64_t i = chunks.first; i < chunks.last; ++i) {
    chunks_[i].state = ChunkState::kFlushing;
  }
}

void ExtentRecord::end_flush(ChunkSpan chunks) {
  for (std::uint64_t i = chunks.first; i < chunks.last; ++i) {
    chunks_[i].state = ChunkState::kWritten;
  }
}

ChunkSpan ExtentRecord::leading_run(ChunkSpan chunks) const noexcept {
  std::uint64_t last = chunks.first + 1;
  while (last < chunks.last && written(last) == written(chunks.first)) ++last;
  return {chunks.first, last};
}

bool ExtentRecord::written(std::uint64_t chunk) const noexcept {
  return chunks_[chunk].state == ChunkState::kWritten;
}

std::uint64_t ExtentRecord::checksum(std::uint64_t chunk) const noexcept {
  return chunks_[chunk].checksum;
}

void ExtentRecord::set_checksum(std::uint64_t chunk, std::uint64_t checksum) noexcept {
  chunks_[chunk].checksum = checksum;
}

}  // namespace strata::tiering
