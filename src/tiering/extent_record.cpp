#include "tiering/extent_record.h"

#include <utility>

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
                           StripeLayout layout)
    : id_(id),
      name_(name),
      bytes_(bytes),
      layout_(std::move(layout)),
      chunks_(ceil_div(bytes, layout_.chunk_bytes)) {}

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
