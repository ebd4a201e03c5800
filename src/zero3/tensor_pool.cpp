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
    const std::size_t needed = round_up(bytes, kBlockGrid);
    const std::lock_guard lock(mutex_);
    auto fit = free_.lower_bound({needed, nullptr});
    if (fit == free_.end()) {
      unmap_free_segments();  // none of them is long enough
      map_segment(needed);
      fit = free_.lower_bound({needed, nullptr});
    }
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

  void map_segment(std::size_t bytes) {
    const std::size_t length = round_up(std::max(bytes, kSegment), kHugePage);
    // Maps two huge pages more, so that one begins where the segment does.
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
    segments_.emplace(start, length);
    blocks_[start] = {length, true};
    free_.emplace(length, start);
    use_.held += length;
    use_.peak = std::max(use_.peak, use_.held);
    ++use_.mapped;
  }

  void unmap_free_segments() {
    for (auto segment = segments_.begin(); segment != segments_.end();) {
      const auto [start, length] = *segment;
      const auto block = blocks_.find(start);
      if (!block->second.is_free || block->second.bytes != length) {
        ++segment;
        continue;
      }
      free_.erase({length, start});
      blocks_.erase(block);
      segment = segments_.erase(segment);
      ::munmap(start, length);
      use_.held -= length;
    }
  }

  static constexpr std::size_t kHugePage = std::size_t{2} << 20;

  c10::Allocator& others_;
  mutable std::mutex mutex_;
  bool retired_ = false;
  std::map<std::byte*, std::size_t> segments_;         // start -> bytes
  std::map<std::byte*, Block> blocks_;                 // blocks of all segments, by their starts
  std::set<std::pair<std::size_t, std::byte*>> free_;  // free blocks, the smallest first
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
