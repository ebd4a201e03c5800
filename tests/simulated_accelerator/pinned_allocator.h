#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace strata::simulated {

/// Host memory that a device reads and writes in the order of its streams, after the call that
/// asks for it (Tensor::pin_memory). It is kept until the device goes: an address then always means
/// one buffer, and no report mixes up two. A buffer belongs to the device that was current when it
/// was taken. Thread-safe.
class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override;
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override;

  [[nodiscard]] bool owns(const void* address);
  /// Gives a device's memory back, because it has gone.
  void drop_all(c10::DeviceIndex index);

 private:
  struct Buffer {
    std::size_t bytes;
    std::shared_ptr<std::byte[]> memory;  // shared with the tensors that are left
    c10::DeviceIndex index;
  };
  std::mutex mutex_;
  std::map<std::uintptr_t, Buffer> buffers_;
};

/// The one that LibTorch has been told of.
[[nodiscard]] PinnedAllocator& pinned_allocator();

}  // namespace strata::simulated
