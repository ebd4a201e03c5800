#include "strata/zero3/tensor_pool.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/alignment.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata {

/// The allocator is never destroyed: LibTorch keeps a pointer to it in every storage that was made
/// with it, empty ones too.
class TensorPool::Allocator final : public c10::Allocator {
 public:
  explicit Allocator(c10::Allocator& others) : others_(others) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return others_.allocate(0);  // no memory, and nothing to give back
    const bool is_pooled = bytes >= kSmallestBlock;
    const std::size_t whole = bytes + kHeaderBytes;
    void* const block = is_pooled ? take(whole) : others_.raw_allocate(whole);
    new (block) Header{*this, is_pooled};
    void* const data = static_cast<std::byte*>(block) + kHeaderBytes;
    return {data, data, &Allocator::give_back, c10::Device(c10::DeviceType::CPU)};
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &Allocator::give_back; }
  void copy_data(void* target, const void* source, std::size_t bytes) const override {
    default_copy_data(target, source, bytes);
  }

  [[nodiscard]] c10::Allocator& others() const noexcept { return others_; }
  [[nodiscard]] TensorPoolUse use() const {
    const std::lock_guard lock(mutex_);
    return use_;
  }
  void trim() {
    const std::lock_guard lock(mutex_);
    unmap_free_segments();
  }
  /// Keeps nothing for later any more.
  void retire() {
    const std::lock_guard lock(mutex_);
    retired_ = true;
    unmap_free_segments();
  }

 private:
  /// The header before every block's data: its deleter is told only where the data is.
  struct Header {
    Allocator& owner;
    bool is_pooled;
  };
  static constexpr std::size_t kHeaderBytes = c10::gAlignment;
  static_assert(sizeof(Header) <= kHeaderBytes);

  struct Block {
    std::size_t bytes;
    bool is_free;
  };
  struct Segment {
    std::size_t bytes;
    bool is_shared;          // cut into blocks; else it is one
    std::uint64_t freed_at;  // when its first block was, in calls
  };

  static void give_back(void* data) {
    if (data == nullptr) return;
    std::byte* const block = static_cast<std::byte*>(data) - kHeaderBytes;
    const Header& header = *reinterpret_cast<const Header*>(block);
    if (header.is_pooled) {
      header.owner.put(block);
    } else {
      header.owner.others_.raw_deallocate(block);
    }
  }

  std::byte* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    return bytes > kLargestShared ? take_segment(bytes) : take_from_shared(bytes);
  }

  /// A segment for one block: a free one that is little longer, or a new one.
  std::byte* take_segment(std::size_t bytes) {
    const std::size_t length = round_up(bytes, kHugePage);
    auto fit = free_segments_.lower_bound({length, nullptr});
    if (fit == free_segments_.end() || fit->first - length > length / kSnugness) {
      fit = free_segments_.find({length, make_segment(length, /*is_shared=*/false)});
    }
    const auto [whole, start] = *fit;
    free_segments_.erase(fit);
    blocks_.at(start).is_free = false;
    use_.live += whole;
    return start;
  }

  std::byte* take_from_shared(std::size_t bytes) {
    const std::size_t needed = round_up(bytes, kBlockGrid);
    auto fit = free_.lower_bound({needed, nullptr});
    if (fit == free_.end())
      fit = free_.find({kSegment, make_segment(kSegment, /*is_shared=*/true)});
    const auto [length, start] = *fit;
    free_.erase(fit);
    if (length > needed) {
      blocks_[start + needed] = {length - needed, true};
      free_.emplace(length - needed, start + needed);
    }
    blocks_[start] = {needed, false};
    use_.live += needed;
    return start;
  }

  void put(std::byte* start) {
    const std::lock_guard lock(mutex_);
    auto block = blocks_.find(start);
    use_.live -= block->second.bytes;
    block->second.is_free = true;
    const auto segment = segments_.find(start);
    if (segment != segments_.end()) segment->second.freed_at = ++ticks_;
    if (segment != segments_.end() && !segment->second.is_shared) {
      free_segments_.emplace(block->second.bytes, start);
      if (retired_) unmap_free_segments();
      return;
    }
    const auto next = std::next(block);
    if (next != blocks_.end() && follows(block->first, block->second, next->first) &&
        next->second.is_free) {
      free_.erase({next->second.bytes, next->first});
      block->second.bytes += next->second.bytes;
      blocks_.erase(next);
    }
    if (block != blocks_.begin()) {
      const auto before = std::prev(block);
      if (before->second.is_free && follows(before->first, before->second, block->first)) {
        free_.erase({before->second.bytes, before->first});
        before->second.bytes += block->second.bytes;
        blocks_.erase(block);
        block = before;
      }
    }
    free_.emplace(block->second.bytes, block->first);
    if (retired_) unmap_free_segments();
  }

  /// Whether a block begins where this one ends, in the same segment: neighbours in the address
  /// space may be two mappings.
  bool follows(std::byte* start, const Block& block, std::byte* next) const {
    return start + block.bytes == next && !segments_.contains(next);
  }

  /// A new segment, as one free block. It takes over pages of segments that are free, those that
  /// have been free for longest before others, as far as the pool would else hold more than ever
  /// before: a page that the system gives anew costs a fault, and zeros.
  std::byte* make_segment(std::size_t length, bool is_shared) {
    std::byte* const start = map_huge_pages(length);
    std::size_t filled = 0;
    while (filled < length && use_.held + length > use_.peak) {
      const std::size_t excess = use_.held + length - use_.peak;
      const std::size_t moved = move_free_pages(start + filled, std::min(excess, length - filled));
      if (moved == 0) break;
      filled += moved;
    }
    segments_[start] = {length, is_shared, ++ticks_};
    blocks_[start] = {length, true};
    (is_shared ? free_ : free_segments_).emplace(length, start);
    use_.held += length;
    use_.peak = std::max(use_.peak, use_.held);
    if (filled < length) ++use_.mapped;
    return start;
  }

  std::byte* map_huge_pages(std::size_t length) const {
    // A huge page more, so that one begins where the segment does.
    void* const mapped = ::mmap(nullptr, length + kHugePage, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK_WITH(OutOfMemoryError, mapped != MAP_FAILED, "the system has no ",
                     format_bytes(length), " for tensors, beside the ", format_bytes(use_.held),
                     " that the pool holds (", format_bytes(use_.live), " of them in use)");
    auto* const address = static_cast<std::byte*>(mapped);
    const std::size_t before = round_up(reinterpret_cast<std::uintptr_t>(address), kHugePage) -
                               reinterpret_cast<std::uintptr_t>(address);
    if (before > 0) ::munmap(address, before);
    std::byte* const start = address + before;
    if (before < kHugePage) ::munmap(start + length, kHugePage - before);
    ::madvise(start, length, MADV_HUGEPAGE);  // a wish: small pages serve as well
    return start;
  }

  /// Moves pages of the segment that has been free for longest to `target`, up to `wanted` bytes of
  /// them, and returns how many; 0 when no segment is free as a whole. Pages that the kernel does
  /// not move (a process may have so many mappings and no more) go back to the system instead: to
  /// the caller that is the same, but that new ones come to `target` when they are touched.
  std::size_t move_free_pages(std::byte* target, std::size_t wanted) {
    const auto oldest = oldest_free_segment();
    if (oldest == segments_.end()) return 0;
    const std::size_t count = std::min(wanted, oldest->second.bytes);
    std::byte* const source = shorten_free_segment(oldest, count);
    if (::mremap(source, count, count, MREMAP_MAYMOVE | MREMAP_FIXED, target) == MAP_FAILED) {
      ::munmap(source, count);
    }
    return count;
  }

  [[nodiscard]] bool is_free(std::byte* start, const Segment& segment) const {
    const Block& block = blocks_.at(start);
    return block.is_free && block.bytes == segment.bytes;
  }

  using Segments = std::map<std::byte*, Segment>;

  Segments::iterator oldest_free_segment() {
    auto oldest = segments_.end();
    for (auto segment = segments_.begin(); segment != segments_.end(); ++segment) {
      if (!is_free(segment->first, segment->second)) continue;
      if (oldest == segments_.end() || segment->second.freed_at < oldest->second.freed_at) {
        oldest = segment;
      }
    }
    return oldest;
  }

  /// Takes `count` bytes off the end of a segment that is free, and returns where they begin. What
  /// stays of a shared segment is for large tensors.
  std::byte* shorten_free_segment(Segments::iterator segment, std::size_t count) {
    const auto [start, whole] = *segment;
    (whole.is_shared ? free_ : free_segments_).erase({whole.bytes, start});
    const std::size_t rest = whole.bytes - count;
    if (rest == 0) {
      blocks_.erase(start);
      segments_.erase(segment);
    } else {
      segment->second.bytes = rest;
      segment->second.is_shared = false;
      blocks_.at(start).bytes = rest;
      free_segments_.emplace(rest, start);
    }
    use_.held -= count;
    return start + rest;
  }

  void unmap_free_segments() {
    for (auto segment = oldest_free_segment(); segment != segments_.end();
         segment = oldest_free_segment()) {
      const std::size_t length = segment->second.bytes;
      ::munmap(shorten_free_segment(segment, length), length);
    }
  }

  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  // A segment of one block is at most this part longer than that.
  static constexpr std::size_t kSnugness = 8;

  c10::Allocator& others_;
  mutable std::mutex mutex_;
  bool retired_ = false;
  std::uint64_t ticks_ = 0;
  Segments segments_;                   // by their starts
  std::map<std::byte*, Block> blocks_;  // blocks of all segments, by their starts
  // What is free, the smallest first: blocks of shared segments, and segments of one block.
  std::set<std::pair<std::size_t, std::byte*>> free_, free_segments_;
  TensorPoolUse use_;
};

TensorPool::TensorPool() {
  c10::Allocator* const before = c10::GetCPUAllocator();
  if (before != c10::GetDefaultCPUAllocator()) {
    throw UsageError(
        "LibTorch's CPU allocator is not its own any more (another TensorPool?), and there can be "
        "one at a time; make one pool, first thing in main");
  }
  allocator_ = new Allocator(*before);
  c10::SetCPUAllocator(allocator_);
}

TensorPool::~TensorPool() {
  c10::SetCPUAllocator(&allocator_->others());
  allocator_->retire();
}

TensorPoolUse TensorPool::use() const { return allocator_->use(); }

void TensorPool::trim() { allocator_->trim(); }

}  // namespace strata
