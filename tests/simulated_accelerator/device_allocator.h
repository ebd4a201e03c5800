#pragma once

#include <c10/core/Allocator.h>

#include <map>
#include <mutex>
#include <unordered_set>

#include "simulated_accelerator/live_device.h"

namespace strata::simulated {

/// Gives LibTorch's tensors memory of the current device. As with a caching allocator, memory goes
/// back in the order of the stream that was current when it was taken, so a tensor may be destroyed
/// while operators of that stream still use it. Memory that `used_on` named another stream for is
/// kept until the device goes, because no event of the test's own says when it is free.
/// Thread-safe.
class DeviceAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override;
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override;

  /// Says that operators of `role` use this memory, whoever gave it.
  void used_on(const c10::DataPtr& memory, StreamRole role);
  /// Takes all memory of a device back, because it goes. Tensors that are left must not be read.
  void take_back_all(c10::DeviceIndex index);

 private:
  struct Block;
  static void give_back(void* block);

  std::mutex mutex_;
  std::unordered_set<Block*> blocks_;
  std::multimap<c10::DeviceIndex, tiering::DeviceMemory> kept_;
};

/// The one that LibTorch has been told of.
[[nodiscard]] DeviceAllocator& device_allocator();

}  // namespace strata::simulated
