#pragma once

#include <cstdint>

/// \file
/// The bytes of a parameter and step with all state on disk (bf16, fp32 moments), as DESIGN has
/// them: the weight is read for forward and for backward, the optimizer reads master and moments,
/// and writes them and the weight.

namespace strata::bench {

inline constexpr std::uint64_t kTrainWeightBytes = 2;
inline constexpr std::uint64_t kTrainBytesAtRest = 12;
inline constexpr std::uint64_t kTrainBytesRead = 2 * kTrainWeightBytes + 10;
inline constexpr std::uint64_t kTrainBytesWritten = kTrainBytesAtRest;
inline constexpr std::uint64_t kTrainBytesMoved = kTrainBytesRead + kTrainBytesWritten;

}  // namespace strata::bench
