#include "simulated_accelerator/pinned_allocator.h"

#include <cstring>
#include <iterator>

#include "simulated_accelerator/live_device.h"

namespace strata::simulated {

c10::DataPtr PinnedAllocator::allocate(std::size_t bytes) {
  if (bytes == 0) return {nullptr, c10::Device(c10::DeviceType::CPU)};
  constexpr std::align_val_t kAlignment{64};  // as the kernels of the CPU have it
  const std::shared_ptr<std::byte[]> memory(new (kAlignment) std::byte[bytes], [](std::byte* data) {
    ::operator delete[](data, std::align_val_t{64});
  });
  {
    const std::lock_guard lock(mutex_);
    buffers_[reinterpret_cast<std::uintptr_t>(memory.get())] = {bytes, memory, current_index()};
  }
  using Shared = std::shared_ptr<std::byte[]>;
  return {memory.get(), new Shared(memory),
          [](void* shared) { delete static_cast<Shared*>(shared); },
          c10::Device(c10::DeviceType::CPU)};
}

void PinnedAllocator::copy_data(void* to, const void* from, std::size_t bytes) const {
  std::memcpy(to, from, bytes);
}

bool PinnedAllocator::owns(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  const std::lock_guard lock(mutex_);
  const auto after = buffers_.upper_bound(wanted);
  if (after == buffers_.begin()) return false;
  const auto& [start, buffer] = *std::prev(after);
  return wanted - start < buffer.bytes;
}

void PinnedAllocator::drop_all(c10::DeviceIndex index) {
  const std::lock_guard lock(mutex_);
  std::erase_if(buffers_, [&](const auto& buffer) { return buffer.second.index == index; });
}

PinnedAllocator& pinned_allocator() {
  static auto* const allocator = new PinnedAllocator;  // tensors may outlive everything
  return *allocator;
}

}  // namespace strata::simulated
