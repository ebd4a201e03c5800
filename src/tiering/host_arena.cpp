#include "strata/tiering/host_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "strata/aio/numa.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {
namespace {

constexpr std::uint64_t kHugePage = 2ull << 20;
/// Larger capacities are refused before they overflow an address.
constexpr std::uint64_t kCapacityMax = 1ull << 46;

std::uint64_t address_of(const std::byte* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

/// Address space without memory behind it, starting on a huge page.
std::byte* reserve_address_space(std::uint64_t bytes) {
  const std::uint64_t with_slack = bytes + kHugePage;
  void* mapped =
      mmap(nullptr, with_slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw system_error("reserve " + format_bytes(with_slack) + " of address space for",
                       "host arena", errno, "raise `ulimit -v` or give the arena less capacity");
  }
  auto* start = static_cast<std::byte*>(mapped);
  const std::uint64_t head = round_up(address_of(start), kHugePage) - address_of(start);
  if (head > 0) munmap(start, head);
  munmap(start + head + bytes, kHugePage - head);
  return start + head;
}

/// Makes every page of the piece present now.
void commit(std::byte* piece, std::uint64_t bytes, std::string_view what) {
  constexpr std::string_view kHint = "free memory on this machine or lower the host budget";
  const std::string action = "commit " + format_bytes(bytes) + " of host memory for";
  if (mprotect(piece, bytes, PROT_READ | PROT_WRITE) != 0) {
    throw system_error(action, what, errno, kHint);
  }
  if (madvise(piece, bytes, MADV_POPULATE_WRITE) == 0) return;
  if (errno != EINVAL) throw system_error(action, what, errno, kHint);
  // Kernels before Linux 5.14 need each page touched.
  for (std::uint64_t offset = 0; offset < bytes; offset += HostArena::kGranularity) {
    static_cast<volatile std::byte*>(piece)[offset] = std::byte{0};
  }
}

}  // namespace

// A piece of a huge page or more starts on one. The gap before it is address space, not memory, and
// shorter than the piece: twice the capacity is always enough addresses.
HostArena::HostArena(Budget& budget, std::uint64_t capacity_bytes, Logger& log, int numa_node)
    : budget_(budget) {
  if (capacity_bytes > kCapacityMax) {
    throw UsageError("host arena: a capacity of " + format_bytes(capacity_bytes) +
                     " exceeds the largest, " + format_bytes(kCapacityMax));
  }
  capacity_ = round_up(std::max<std::uint64_t>(capacity_bytes, 1), kGranularity);
  reserved_ = 2 * capacity_;
  base_ = reserve_address_space(reserved_);
  madvise(base_, reserved_, MADV_HUGEPAGE);  // a kernel without huge pages refuses: only slower
  const std::string refusal = aio::bind_to_numa_node({base_, reserved_}, numa_node);
  if (!refusal.empty()) {
    log.info("host arena: not bound to a NUMA node (" + refusal + "); the kernel places its pages");
  }
}

HostArena::~HostArena() {
  const std::byte* const end = base_ + reserved_;
  std::byte* begin = base_;
  const auto unmap_until = [&](const std::byte* until) {
    if (begin < until) munmap(begin, static_cast<std::size_t>(until - begin));
  };
  if (lost_ != nullptr) {
    for (const std::span<const std::byte> kept : lost_->within({base_, reserved_})) {
      const auto first = static_cast<std::uint64_t>(kept.data() - base_);
      unmap_until(base_ + first / kGranularity * kGranularity);
      begin = std::max(begin, base_ + round_up(first + kept.size(), kGranularity));
    }
  }
  unmap_until(end);
}

std::span<std::byte> HostArena::take(std::uint64_t bytes, std::string_view what) {
  if (bytes == 0) throw UsageError("host arena: no bytes asked for " + std::string(what));
  if (bytes > capacity_ - used_) {
    throw BudgetError("the host arena cannot hold " + std::string(what) + ": " +
                      format_bytes(bytes) + " asked, " + format_bytes(used_) + " taken, capacity " +
                      format_bytes(capacity_) + "; make the arena with more capacity");
  }
  const std::uint64_t charged = round_up(bytes, kGranularity);
  Reservation reservation = budget_.reserve(charged, what);
  const std::uint64_t start = charged < kHugePage ? end_ : round_up(end_, kHugePage);
  reservations_.reserve(reservations_.size() + 1);
  commit(base_ + start, charged, what);
  reservations_.push_back(std::move(reservation));
  used_ += charged;
  end_ = start + charged;
  return {base_ + start, bytes};
}

void HostArena::heed(std::shared_ptr<const aio::LostMemory> lost) noexcept {
  lost_ = std::move(lost);
}

bool HostArena::is_lost(std::span<const std::byte> memory) const {
  return lost_ != nullptr && lost_->touches(memory);
}

}  // namespace strata::tiering
