#include "simulated_accelerator/device_allocator.h"

#include <memory>
#include <utility>

#include "strata/base/error.h"

namespace strata::simulated {

struct DeviceAllocator::Block {
  DeviceAllocator& owner;
  tiering::DeviceMemory memory;  // none: its device has gone
  c10::DeviceIndex index;
  StreamRole role;  // the stream in whose order it goes back
  bool used_elsewhere = false;
};

c10::DataPtr DeviceAllocator::allocate(std::size_t bytes) {
  const c10::Device device(kDeviceType, current_index());
  if (bytes == 0) return {nullptr, device};
  auto block = std::make_unique<Block>(
      Block{*this, live_device().allocate(bytes, "a tensor"), device.index(), current_role()});
  auto* const data = reinterpret_cast<void*>(block->memory.span().address());
  const std::lock_guard lock(mutex_);
  blocks_.insert(block.get());
  return {data, block.release(), &DeviceAllocator::give_back, device};
}

void DeviceAllocator::copy_data(void* to, const void* from, std::size_t bytes) const {
  live_device().copy_within(current_role(), {reinterpret_cast<std::uintptr_t>(from), bytes},
                            {reinterpret_cast<std::uintptr_t>(to), bytes});
}

void DeviceAllocator::give_back(void* block) {
  const std::unique_ptr<Block> owned(static_cast<Block*>(block));
  DeviceAllocator& owner = owned->owner;
  const std::lock_guard lock(owner.mutex_);
  owner.blocks_.erase(owned.get());
  if (owned->memory.span().empty()) return;
  if (owned->used_elsewhere) {
    owner.kept_.emplace(owned->index, std::move(owned->memory));
  } else {
    live_device(owned->index).free_on(owned->role, std::move(owned->memory));
  }
}

void DeviceAllocator::used_on(const c10::DataPtr& memory, StreamRole role) {
  if (memory.get_deleter() != &DeviceAllocator::give_back) return;  // not from here
  auto* const block = static_cast<Block*>(memory.get_context());
  const std::lock_guard lock(mutex_);
  if (block->role != role) block->used_elsewhere = true;
}

void DeviceAllocator::take_back_all(c10::DeviceIndex index) {
  const std::lock_guard lock(mutex_);
  support::SimDevice& device = live_device(index);
  std::erase_if(blocks_, [&](Block* block) {
    if (block->index != index) return false;
    device.free_on(block->role, std::exchange(block->memory, {}));
    return true;
  });
  const auto [first, last] = kept_.equal_range(index);
  for (auto kept = first; kept != last; ++kept) {
    device.free_on(StreamRole::kCompute, std::move(kept->second));
  }
  kept_.erase(first, last);
}

DeviceAllocator& device_allocator() {
  static auto* const allocator = new DeviceAllocator;  // tensors may outlive everything
  return *allocator;
}

}  // namespace strata::simulated
