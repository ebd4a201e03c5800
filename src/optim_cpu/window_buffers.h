#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "optim_cpu/window.h"
#include "strata/tiering/host_arena.h"

namespace strata::optim_cpu {

/// Bytes of the buffers of one window, by state; 0 for a state that is never fetched.
[[nodiscard]] PerState<std::uint64_t> buffer_bytes_of_window(const WindowPipeline::Options& options,
                                                             std::uint64_t buffer_alignment);

/// The memory of all windows of a pipeline, in one piece.
[[nodiscard]] std::span<std::byte> take_window_memory(const WindowPipeline::Options& options,
                                                      tiering::HostArena& arena);

/// The windows of a pipeline, with buffers in `memory`; without buffers when that is empty.
[[nodiscard]] std::vector<Window> make_windows(const WindowPipeline::Options& options,
                                               std::span<std::byte> memory);

}  // namespace strata::optim_cpu
