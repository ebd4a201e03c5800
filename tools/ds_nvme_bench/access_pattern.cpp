#include "access_pattern.h"

#include <algorithm>
#include <string>

#include "point.h"
#include "random_bytes.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

using aio::OpKind;

constexpr std::uint64_t kAtRest = kTrainBytesAtRest;
constexpr std::uint64_t kWeights = kTrainWeightBytes;
constexpr std::uint64_t kOptimizerReads = kTrainBytesRead - 2 * kWeights;
constexpr std::uint64_t kOptimizerMoves = kOptimizerReads + kTrainBytesWritten;
constexpr std::uint64_t kMoved = kTrainBytesMoved;

// The passes of a slice are long enough to fill the queue, and short against a measurement.
constexpr std::uint64_t kUnitBytesMin = 8_MiB;

std::uint64_t unit_blocks_for(std::uint64_t blocks, std::uint32_t depth,
                              std::uint64_t block_bytes) {
  const std::uint64_t wanted = std::max<std::uint64_t>(depth, ceil_div(kUnitBytesMin, block_bytes));
  return std::min(wanted, blocks / kAtRest);
}

}  // namespace

AccessPattern::AccessPattern(Workload workload, std::uint64_t blocks, std::uint32_t depth,
                             std::uint64_t block_bytes, std::uint64_t seed)
    : workload_(workload),
      blocks_(blocks),
      writes_(has_writes(workload)),
      random_state_(mix(seed)),
      next_write_(workload == Workload::kReadWrite ? blocks / 2 : 0),
      in_flight_(writes_ ? blocks : 0) {
  const std::uint64_t least = workload == Workload::kTrainStep ? kAtRest : 1;
  STRATA_CHECK(blocks >= least, "blocks=" + std::to_string(blocks));
  unit_blocks_ = unit_blocks_for(blocks, depth, block_bytes);
}

std::optional<Access> AccessPattern::next() {
  if (in_flight_count_ == blocks_ && writes_) return std::nullopt;
  Access access = choose();
  ++count_;
  if (!writes_) return access;
  while (in_flight_[access.block]) access.block = (access.block + 1) % blocks_;
  in_flight_[access.block] = true;
  ++in_flight_count_;
  return access;
}

void AccessPattern::finished(std::uint64_t block) {
  if (!writes_) return;
  in_flight_[block] = false;
  --in_flight_count_;
}

Access AccessPattern::choose() {
  const auto advance = [this](std::uint64_t& position) {
    const std::uint64_t block = position;
    position = block + 1 == blocks_ ? 0 : block + 1;
    return block;
  };
  const OpKind alternating = count_ % 2 == 0 ? OpKind::kRead : OpKind::kWrite;
  switch (workload_) {
    case Workload::kRead: return {OpKind::kRead, advance(next_read_)};
    case Workload::kWrite: return {OpKind::kWrite, advance(next_write_)};
    case Workload::kReadWrite:
      return {alternating, advance(alternating == OpKind::kRead ? next_read_ : next_write_)};
    case Workload::kRandRead: return {OpKind::kRead, random_block()};
    case Workload::kRandWrite: return {OpKind::kWrite, random_block()};
    case Workload::kRandRw: return {alternating, random_block()};
    case Workload::kTrainStep: break;
  }
  return choose_of_train_step();
}

Access AccessPattern::choose_of_train_step() {
  const std::uint64_t weights = kWeights * unit_blocks_;
  const std::uint64_t slice = kAtRest * unit_blocks_;
  const std::uint64_t at = in_slice_;
  Access access{OpKind::kRead, 0};
  if (at < 2 * weights) {  // forward, backward
    access.block = slice_begin_ + at % weights;
  } else {  // the optimizer: 10 reads and 12 writes of every 22, evenly mixed
    const std::uint64_t index = at - 2 * weights;
    const std::uint64_t reads_before = (index * kOptimizerReads + kAtRest) / kOptimizerMoves;
    if (index * kOptimizerReads % kOptimizerMoves < kOptimizerReads) {
      access.block = slice_begin_ + weights + reads_before;
    } else {
      // Half a slice away from the reads, all the way.
      const std::uint64_t writes_before = index - reads_before;
      access = {OpKind::kWrite, slice_begin_ + (writes_before + 7 * unit_blocks_) % slice};
    }
  }
  if (++in_slice_ == kMoved * unit_blocks_) {
    in_slice_ = 0;
    slice_begin_ += slice;
    if (slice_begin_ + slice > blocks_) slice_begin_ = 0;
  }
  return access;
}

std::uint64_t AccessPattern::random_block() {
  random_state_ += 0x9e3779b97f4a7c15ull;
  const auto product = static_cast<unsigned __int128>(mix(random_state_)) * blocks_;
  return static_cast<std::uint64_t>(product >> 64);
}

}  // namespace strata::nvme_bench
