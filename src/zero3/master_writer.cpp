#include "zero3/master_writer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/convert.h"

namespace strata::zero3 {

BlockScratch::Buffer BlockScratch::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return {};
  Buffer buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

MasterWriter::MasterWriter(const StateFormat& format, std::uint64_t count,
                           const tiering::StateHome& weight, const tiering::StateHome& master,
                           const Means& means)
    : format_(format),
      count_(count),
      means_(means),
      weight_(weight, state_bytes(format, StateKind::kWeight), count, means.chunk_bytes,
              means.writes),
      master_(master, state_bytes(format, StateKind::kMaster), count, means.chunk_bytes,
              means.writes) {}

/// The end of the elements, from `begin` to the end of `written`, that are written next. Half of
/// the buffers are filled while the other half is written.
std::uint64_t MasterWriter::make_room(std::uint64_t begin, ElementRange written) {
  weight_.close_until(begin);
  master_.close_until(begin);
  for (std::size_t opened = 0;; ++opened) {
    FillingChunks& shorter = weight_.room_end(begin) <= master_.room_end(begin) ? weight_ : master_;
    const std::uint64_t end = shorter.room_end(begin);
    if (end >= written.end) return written.end;
    const bool is_enough = opened >= means_.writes->slots() / 2 || !means_.writes->can_take();
    if (end > begin && is_enough) return end;
    shorter.open_next(begin, written);
  }
}

void MasterWriter::write(std::uint64_t begin, const MasterSource& source, ElementRange part) {
  const ElementRange written{begin, begin + part.count()};
  STRATA_CHECK(written.end <= count_ && part.end <= source.count,
               std::to_string(written.end) + " of " + std::to_string(count_));
  const std::uint64_t block_elements = source.block_elements;
  const auto in_source = [&](std::uint64_t at) { return at - begin + part.begin; };
  for (std::uint64_t at = begin; at < written.end;) {
    ElementRange next{in_source(at), in_source(make_room(at, written))};
    // A block that is cut is made twice.
    const std::uint64_t whole_blocks = next.end / block_elements * block_elements;
    if (next.end < part.end && whole_blocks > next.begin) next.end = whole_blocks;
    const std::uint64_t first = next.begin / block_elements;
    const auto write_block = [&](std::uint64_t block) {
      const std::uint64_t block_begin = block * block_elements;
      const std::uint64_t block_end = std::min(block_begin + block_elements, source.count);
      means_.scratch.with(block_end - block_begin, [&](std::span<float> scratch) {
        const std::span<const float> masters = source.block(block_begin, scratch);
        const std::uint64_t from = std::max(block_begin, next.begin);
        const std::uint64_t to = std::min(block_end, next.end);
        split(begin + (from - part.begin), masters.subspan(from - block_begin, to - from));
      });
    };
    means_.threads.for_each_block(ceil_div(next.end, block_elements) - first, 1,
                                  [&](optim_cpu::Block one) { write_block(first + one.begin); });
    at = begin + (next.end - part.begin);
    weight_.close_until(at);
    master_.close_until(at);
  }
}

void MasterWriter::split(std::uint64_t begin, std::span<const float> masters) {
  const ElementRange all{begin, begin + masters.size()};
  for (std::uint64_t at = all.begin; at < all.end;) {
    const std::uint64_t end = std::min({all.end, weight_.run_end(at), master_.run_end(at)});
    optim_cpu::split_master(format_, masters.subspan(at - begin, end - at), weight_.data(at),
                            master_.data(at));
    at = end;
  }
  weight_.filled(all);
  master_.filled(all);
}

void MasterWriter::finish() {
  weight_.close_until(count_);
  master_.close_until(count_);
}

}  // namespace strata::zero3
