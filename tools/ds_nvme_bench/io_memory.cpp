#include "io_memory.h"

#include <linux/mman.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "random_bytes.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

constexpr std::size_t kHugePage = 2_MiB;

/// Pages from the pool that the administrator set aside (vm.nr_hugepages), the cheapest for the
/// kernel to describe; null when it has too few.
void* map_reserved_huge_pages(std::size_t bytes) {
  void* const mapping =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0);
  return mapping == MAP_FAILED ? nullptr : mapping;
}

}  // namespace

IoMemory::IoMemory(std::size_t bytes, bool huge_pages)
    : mapped_bytes_(round_up(bytes, kHugePage)), bytes_(bytes) {
  if (huge_pages) mapping_ = map_reserved_huge_pages(mapped_bytes_);
  data_ = static_cast<std::byte*>(mapping_);
  if (mapping_ == nullptr) map_ordinary_pages(huge_pages);
  fill_random(this->bytes(), reinterpret_cast<std::uintptr_t>(data_), 0);
}

void IoMemory::map_ordinary_pages(bool huge_pages) {
  mapped_bytes_ += kHugePage;  // to begin on a huge page's boundary
  mapping_ =
      ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw system_error("map " + format_bytes(bytes_) + " of buffers", "in memory", errno,
                       "use a smaller block, depth or number of threads");
  }
  const auto address = reinterpret_cast<std::uintptr_t>(mapping_);
  data_ = static_cast<std::byte*>(mapping_) + (round_up(address, kHugePage) - address);
  const int advice = huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
  [[maybe_unused]] const int ignored = ::madvise(data_, mapped_bytes_ - kHugePage, advice);
}

IoMemory::IoMemory(IoMemory&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_bytes_(other.mapped_bytes_),
      data_(other.data_),
      bytes_(other.bytes_) {}

IoMemory::~IoMemory() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapped_bytes_);
}

}  // namespace strata::nvme_bench
