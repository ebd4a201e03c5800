#pragma once

#include <cstddef>
#include <span>

namespace strata::nvme_bench {

/// Page-aligned memory for transfers, its pages present. On huge pages the kernel describes a
/// block to the disk in few pieces, which on some machines doubles the rate; where it has none, the
/// memory is of small pages. Pages set aside (vm.nr_hugepages) come before transparent ones. Filled
/// with random bytes. Move-only.
class IoMemory {
 public:
  /// Throws IoError when the system has not that much.
  IoMemory(std::size_t bytes, bool huge_pages);
  IoMemory(IoMemory&& other) noexcept;
  IoMemory& operator=(IoMemory&&) = delete;
  ~IoMemory();

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {data_, bytes_}; }

  /// Leaves the memory mapped for good: a device may still write to it.
  void abandon() noexcept { mapping_ = nullptr; }

 private:
  void map_ordinary_pages(bool huge_pages);

  void* mapping_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace strata::nvme_bench
