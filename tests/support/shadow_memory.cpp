#include "support/shadow_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::support {

using tiering::DeviceSpan;

namespace {

constexpr std::uint64_t kPage = 4096;

}  // namespace

ShadowMemory::ShadowMemory(std::uint64_t address_space_bytes)
    : size_(round_up(address_space_bytes, kPage)),
      file_(::memfd_create("simulated device", MFD_CLOEXEC)) {
  if (file_ < 0 || ::ftruncate(file_, static_cast<off_t>(size_)) != 0) {
    throw system_error("make memory of", "a simulated device", errno);
  }
  untouchable_ = map(PROT_NONE);
  touchable_ = map(PROT_READ | PROT_WRITE);
}

ShadowMemory::~ShadowMemory() {
  ::munmap(untouchable_, size_);
  ::munmap(touchable_, size_);
  ::close(file_);
}

std::byte* ShadowMemory::map(int protection) const {
  void* const view = ::mmap(nullptr, size_, protection, MAP_SHARED | MAP_NORESERVE, file_, 0);
  if (view == MAP_FAILED) {
    throw system_error("map " + format_bytes(size_) + " of", "a simulated device", errno,
                       "ask for less address space");
  }
  return static_cast<std::byte*>(view);
}

DeviceSpan ShadowMemory::take(std::uint64_t bytes) {
  const std::uint64_t with_guard = round_up(bytes, kPage) + kPage;
  if (with_guard > size_ - used_) {
    throw BudgetError("simulated device: " + format_bytes(size_) +
                      " of addresses are used up, each once; ask for more address space");
  }
  const DeviceSpan memory(reinterpret_cast<std::uintptr_t>(untouchable_) + used_, bytes);
  used_ += with_guard;
  std::ranges::fill(touchable(memory), kPoison);
  return memory;
}

void ShadowMemory::give_back(DeviceSpan memory) noexcept {
  const auto offset = memory.address() - reinterpret_cast<std::uintptr_t>(untouchable_);
  // Failing leaves the pages in use until the device goes, which harms nothing.
  (void)::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(round_up(memory.bytes(), kPage)));
}

bool ShadowMemory::contains(std::uintptr_t address) const noexcept {
  const auto start = reinterpret_cast<std::uintptr_t>(untouchable_);
  return address >= start && address - start < size_;
}

std::span<std::byte> ShadowMemory::touchable(DeviceSpan memory) const noexcept {
  if (memory.empty()) return {};
  const auto offset = memory.address() - reinterpret_cast<std::uintptr_t>(untouchable_);
  return {touchable_ + offset, memory.bytes()};
}

}  // namespace strata::support
