#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace strata::aio {

struct FreeAlignedMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<std::byte[], FreeAlignedMemory>;

/// Memory full of zeros at a multiple of `alignment`, a power of two; `bytes` is a multiple of it.
[[nodiscard]] inline AlignedMemory make_zeroed_memory(std::size_t alignment, std::size_t bytes) {
  AlignedMemory memory(static_cast<std::byte*>(std::aligned_alloc(alignment, bytes)));
  if (!memory) throw std::bad_alloc();
  std::memset(memory.get(), 0, bytes);
  return memory;
}

}  // namespace strata::aio
