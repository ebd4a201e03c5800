#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "zero3/state_stream.h"

/// \file
/// The bytes of a state at rest as they are, from its beginning to its end, whatever its home is.
/// Where host code cannot reach them they pass through buffers, one of which is looked at while the
/// others are under way.

namespace strata::zero3 {

/// Shows bytes of a home, the first of which is byte `offset` of it.
using BytesVisit = std::function<void(std::uint64_t offset, std::span<const std::byte> bytes)>;
/// Fills all of them.
using BytesFill = std::function<void(std::uint64_t offset, std::span<std::byte> bytes)>;

/// Shows all `bytes` bytes of a home. `buffers` are of staging slots, each of at least one chunk;
/// none is needed for a home in host memory. What `visit` throws is thrown when no transfer is
/// under way. Throws IoError, DeadlineExceeded, CorruptData, DeviceError.
void read_home(const tiering::StateHome& home, std::uint64_t bytes, const StatePassage& passage,
               std::span<const std::span<std::byte>> buffers, const BytesVisit& visit);

/// Gives all of them new values. Throws what read_home throws; then some of them are new.
void write_home(const tiering::StateHome& home, std::uint64_t bytes, const StatePassage& passage,
                std::span<const std::span<std::byte>> buffers, const BytesFill& fill);

}  // namespace strata::zero3
