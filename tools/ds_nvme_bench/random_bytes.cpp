#include "random_bytes.h"

#include <cstring>

namespace strata::nvme_bench {
namespace {

constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15ull;  // odd: every position has another number

std::uint64_t word_at(std::uint64_t seed, std::uint64_t position) {
  return mix(seed + (position / sizeof(std::uint64_t) + 1) * kStep);
}

}  // namespace

void fill_random(std::span<std::byte> bytes, std::uint64_t seed, std::uint64_t position) {
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = word_at(seed, position + at);
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
}

std::size_t first_difference(std::span<const std::byte> bytes, std::uint64_t seed,
                             std::uint64_t position) {
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = word_at(seed, position + at);
    if (std::memcmp(bytes.data() + at, &word, sizeof word) == 0) continue;
    const auto* expected = reinterpret_cast<const std::byte*>(&word);
    for (std::size_t i = 0; i < sizeof word; ++i) {
      if (bytes[at + i] != expected[i]) return at + i;
    }
  }
  return bytes.size();
}

}  // namespace strata::nvme_bench
