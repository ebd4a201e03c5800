#pragma once

#include <cstdint>
#include <vector>

#include "optim_cpu/window.h"
#include "strata/tiering/host_arena.h"

namespace strata::optim_cpu {

/// Bytes of the buffers of one window, by state; 0 for a state that is never fetched.
[[nodiscard]] PerState<std::uint64_t> buffer_bytes_of_window(const WindowPipeline::Options& options,
                                                             std::uint64_t buffer_alignment);

/// The windows of a pipeline, with buffers taken from `arena` in one piece; without buffers when
/// `arena` is null.
[[nodiscard]] std::vector<Window> make_windows(const WindowPipeline::Options& options,
                                               tiering::HostArena* arena);

}  // namespace strata::optim_cpu
