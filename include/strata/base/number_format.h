#pragma once

#include <cstdint>
#include <string_view>

/// \file
/// The number formats that travel between tiers.

namespace strata {

/// The format that a run computes in, and how its weights are stored then (bytes per parameter):
///
///   precision  weight (forward and backward read it)  master remainder
///   kFp32      fp32, which is the master itself (4)   none (0)
///   kBf16      bf16 `hi` (2)                          `lo` (2, or 1: see MasterFormat)
///   kFp16      fp16, a rounded copy (2)               fp32, the master (4)
enum class Precision : std::uint8_t { kFp32, kBf16, kFp16 };

/// The remainder that kBf16 keeps beside the weight. The other precisions have fp32 masters.
enum class MasterFormat : std::uint8_t {
  /// int16 `lo`: bits(master) = (bits(hi) << 16) + lo exactly; hi is the master rounded to nearest,
  /// ties away from zero, so the pair loses nothing.
  kFp32,
  /// int8 `lo`: bits(master) = (bits(hi) << 16) + (lo << 8). The master keeps its upper 24 bits; an
  /// update that does not fit is rounded stochastically, so that it is kept on average.
  k24Bit,
};

/// How the optimizer's moments m and v rest. All arithmetic on them is fp32.
enum class MomentFormat : std::uint8_t {
  kFp32,  ///< 4 bytes each
  kBf16,  ///< 2 bytes each, rounded stochastically
  /// 1 byte each: blocks of kMomentBlockElements codes that share a scale, rounded stochastically.
  /// The scale takes the lowest bits of the block's first 16 codes, so a block has no other bytes.
  kInt8,
};

/// Elements of a block of MomentFormat::kInt8. Every flat vector of such a run is a multiple of it.
inline constexpr std::uint64_t kMomentBlockElements = 64;

/// The formats of all states of a run. Converts from a precision whose states are fp32.
struct StateFormat {
  constexpr StateFormat(Precision of = Precision::kFp32)  // NOLINT(google-explicit-constructor)
      : precision(of) {}

  Precision precision;
  MasterFormat master = MasterFormat::kFp32;
  MomentFormat moments = MomentFormat::kFp32;
  bool has_m = true;  ///< the optimizer keeps a first moment (not: Adagrad, SGD without momentum)
  bool has_v = true;  ///< the optimizer keeps a second moment (not: SGD, Lion)

  /// Whether an update depends on random numbers.
  [[nodiscard]] constexpr bool is_stochastic() const {
    return moments != MomentFormat::kFp32 ||
           (precision == Precision::kBf16 && master == MasterFormat::k24Bit);
  }
  bool operator==(const StateFormat&) const = default;
};

/// The states of a shard.
enum class StateKind : std::uint8_t { kWeight, kMaster, kM, kV, kGradient };

inline constexpr int kStateKindCount = 5;

[[nodiscard]] constexpr std::string_view name_of(Precision precision) {
  return precision == Precision::kFp32 ? "fp32" : precision == Precision::kBf16 ? "bf16" : "fp16";
}

[[nodiscard]] constexpr std::string_view name_of(MomentFormat format) {
  return format == MomentFormat::kFp32 ? "fp32" : format == MomentFormat::kBf16 ? "bf16" : "int8";
}

[[nodiscard]] constexpr std::string_view name_of(MasterFormat format) {
  return format == MasterFormat::kFp32 ? "fp32" : "24bit";
}

[[nodiscard]] constexpr std::string_view name_of(StateKind kind) {
  constexpr std::string_view kNames[] = {"weight", "master", "m", "v", "gradient"};
  return kNames[static_cast<int>(kind)];
}

/// Bytes of one weight in the format that forward and backward read.
[[nodiscard]] constexpr std::uint64_t weight_bytes(Precision precision) {
  return precision == Precision::kFp32 ? 4 : 2;
}

/// Bytes per parameter of m or v where the optimizer keeps it.
[[nodiscard]] constexpr std::uint64_t moment_bytes(MomentFormat format) {
  return format == MomentFormat::kFp32 ? 4 : format == MomentFormat::kBf16 ? 2 : 1;
}

/// Bytes per parameter of the master remainder, which the weight lacks.
[[nodiscard]] constexpr std::uint64_t master_bytes(Precision precision, MasterFormat format) {
  if (precision == Precision::kFp32) return 0;
  if (precision == Precision::kFp16) return 4;
  return format == MasterFormat::kFp32 ? 2 : 1;
}

/// Bytes per parameter of a state at rest. Gradients accumulated over several micro-batches are
/// fp32; those of a single one have the weight's format.
[[nodiscard]] constexpr std::uint64_t state_bytes(const StateFormat& format, StateKind kind,
                                                  bool accumulate_fp32 = false) {
  switch (kind) {
    case StateKind::kWeight: return weight_bytes(format.precision);
    case StateKind::kMaster: return master_bytes(format.precision, format.master);
    case StateKind::kM: return format.has_m ? moment_bytes(format.moments) : 0;
    case StateKind::kV: return format.has_v ? moment_bytes(format.moments) : 0;
    case StateKind::kGradient: return accumulate_fp32 ? 4 : weight_bytes(format.precision);
  }
  return 0;
}

/// Bytes per parameter of the smallest state: a count of elements that fills whole chunks of the
/// store in this state does so in every other.
[[nodiscard]] constexpr std::uint64_t smallest_state_bytes(const StateFormat& format) {
  const bool has_moments = format.has_m || format.has_v;
  const bool bytes = (has_moments && format.moments == MomentFormat::kInt8) ||
                     master_bytes(format.precision, format.master) == 1;
  return bytes ? 1 : 2;
}

}  // namespace strata
