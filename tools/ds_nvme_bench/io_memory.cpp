#include "io_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "random_bytes.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::bench {
namespace {

constexpr std::size_t kHugePage = 2_MiB;

}  // namespace

IoMemory::IoMemory(std::size_t bytes, bool huge_pages)
    : mapped_bytes_(round_up(bytes, kHugePage) + kHugePage), bytes_(bytes) {
  mapping_ =
      ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw system_error("map " + format_bytes(bytes) + " of buffers", "in memory", errno,
                       "use a smaller block, depth or number of threads");
  }
  const auto address = reinterpret_cast<std::uintptr_t>(mapping_);
  data_ = static_cast<std::byte*>(mapping_) + (round_up(address, kHugePage) - address);
  const int advice = huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
  [[maybe_unused]] const int ignored = ::madvise(data_, round_up(bytes, kHugePage), advice);
  fill_random(this->bytes(), reinterpret_cast<std::uintptr_t>(data_), 0);
}

IoMemory::IoMemory(IoMemory&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_bytes_(other.mapped_bytes_),
      data_(other.data_),
      bytes_(other.bytes_) {}

IoMemory::~IoMemory() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapped_bytes_);
}

}  // namespace strata::bench
