#pragma once

#include <cstdint>
#include <string_view>

/// \file
/// The number formats that travel between tiers.

namespace strata {

/// What a run computes in, and with it how its state is stored (bytes per parameter):
///
///   precision  weight (forward and backward read it)  master remainder          m, v
///   kFp32      fp32, which is the master itself (4)   none (0)                  fp32 (4 + 4)
///   kBf16      bf16 `hi` (2)                          int16 `lo` (2)            fp32 (4 + 4)
///   kFp16      fp16, a rounded copy (2)               fp32, the master (4)      fp32 (4 + 4)
///
/// kBf16: bits(master) = (bits(hi) << 16) + lo exactly; hi is the master rounded to nearest, ties
/// away from zero, so the pair loses nothing.
enum class Precision : std::uint8_t { kFp32, kBf16, kFp16 };

/// The states of a shard.
enum class StateKind : std::uint8_t { kWeight, kMaster, kM, kV, kGradient };

inline constexpr int kStateKindCount = 5;

[[nodiscard]] constexpr std::string_view name_of(Precision precision) {
  return precision == Precision::kFp32 ? "fp32" : precision == Precision::kBf16 ? "bf16" : "fp16";
}

[[nodiscard]] constexpr std::string_view name_of(StateKind kind) {
  constexpr std::string_view kNames[] = {"weight", "master", "m", "v", "gradient"};
  return kNames[static_cast<int>(kind)];
}

/// Bytes of one weight in the format that forward and backward read.
[[nodiscard]] constexpr std::uint64_t weight_bytes(Precision precision) {
  return precision == Precision::kFp32 ? 4 : 2;
}

/// Bytes per parameter of a state at rest. Gradients accumulated over several micro-batches are
/// fp32; those of a single one have the weight's format.
[[nodiscard]] constexpr std::uint64_t state_bytes(Precision precision, StateKind kind,
                                                  bool accumulate_fp32 = false) {
  switch (kind) {
    case StateKind::kWeight: return weight_bytes(precision);
    case StateKind::kMaster:
      return precision == Precision::kFp32 ? 0 : precision == Precision::kBf16 ? 2 : 4;
    case StateKind::kM:
    case StateKind::kV: return 4;
    case StateKind::kGradient: return accumulate_fp32 ? 4 : weight_bytes(precision);
  }
  return 0;
}

}  // namespace strata
