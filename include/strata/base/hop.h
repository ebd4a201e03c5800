#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace strata {

/// The eight hops of a training step, in the order in which a byte meets them. Counters, file
/// names, messages and documents all use these words.
///
///     parameters  nvme --fetch--> pinned --upload--> device shard --gather--> device unit
///                                                                compute (LibTorch)
///     gradients   pinned <--drain-- device shard <--reduce-- device unit gradients
///     optimizer   step: CPU Adam over windows; states arrive by fetch, and leave with the
///                 weights by flush
enum class Hop { kFetch, kUpload, kGather, kCompute, kReduce, kDrain, kStep, kFlush };

inline constexpr std::size_t kHopCount = 8;

inline constexpr std::array<std::string_view, kHopCount> kHopNames = {
    "fetch", "upload", "gather", "compute", "reduce", "drain", "step", "flush"};

[[nodiscard]] constexpr std::string_view name_of(Hop hop) {
  return kHopNames[static_cast<std::size_t>(hop)];
}

}  // namespace strata
