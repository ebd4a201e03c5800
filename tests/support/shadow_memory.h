#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "strata/tiering/device_span.h"

namespace strata::support {

/// Memory of a simulated device: each byte has two addresses. At the one that a DeviceSpan names
/// it can never be touched, so that host code which tries faults at once; the device's own threads
/// reach it at the other. Addresses are used once, with a page between neighbours, so memory that
/// was given back stays recognisable. Thread: `take` from one at a time; the rest from any.
class ShadowMemory {
 public:
  static constexpr std::byte kPoison{0xFF};  ///< fresh memory: a NaN in every floating format

  /// Throws IoError when the system has no `address_space_bytes` to map twice. Memory is used only
  /// for what is taken and not given back.
  explicit ShadowMemory(std::uint64_t address_space_bytes);
  ~ShadowMemory();
  ShadowMemory(const ShadowMemory&) = delete;
  ShadowMemory& operator=(const ShadowMemory&) = delete;

  /// Poisoned memory that starts on a page. Throws BudgetError when all addresses have been used.
  [[nodiscard]] tiering::DeviceSpan take(std::uint64_t bytes);
  /// Gives back the memory behind a span from `take`; its addresses are not used again.
  void give_back(tiering::DeviceSpan memory) noexcept;

  [[nodiscard]] bool contains(std::uintptr_t address) const noexcept;
  /// The bytes of a span where they can be touched.
  [[nodiscard]] std::span<std::byte> touchable(tiering::DeviceSpan memory) const noexcept;

 private:
  [[nodiscard]] std::byte* map(int protection) const;

  const std::uint64_t size_;
  int file_ = -1;
  std::byte* untouchable_ = nullptr;
  std::byte* touchable_ = nullptr;
  std::uint64_t used_ = 0;
};

}  // namespace strata::support
