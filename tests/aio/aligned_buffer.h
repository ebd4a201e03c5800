#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <span>

#include "support/same_bytes.h"

namespace strata::aio {

/// Memory that any file takes for direct transfers.
class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 64 << 10;

  explicit AlignedBuffer(std::size_t bytes)
      : bytes_(bytes),
        memory_(static_cast<std::byte*>(
            std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment))) {
    if (!memory_) throw std::bad_alloc();
    fill(std::byte{0});
  }

  void fill(std::byte value) { std::memset(memory_.get(), static_cast<int>(value), bytes_); }
  void fill_randomly(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (std::size_t at = 0; at < bytes_; at += sizeof(std::uint64_t)) {
      const std::uint64_t value = random();
      std::memcpy(memory_.get() + at, &value, std::min(sizeof value, bytes_ - at));
    }
  }

  [[nodiscard]] std::span<std::byte> span() { return {memory_.get(), bytes_}; }
  [[nodiscard]] std::span<std::byte> span(std::size_t offset, std::size_t bytes) {
    return span().subspan(offset, bytes);
  }
  [[nodiscard]] bool operator==(const AlignedBuffer& other) const {
    return support::same_bytes({memory_.get(), bytes_}, {other.memory_.get(), other.bytes_});
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace strata::aio
