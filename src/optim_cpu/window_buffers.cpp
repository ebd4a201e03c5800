#include "optim_cpu/window_buffers.h"

#include <algorithm>
#include <numeric>

#include "strata/base/units.h"

namespace strata::optim_cpu {
namespace {

constexpr std::uint64_t kAlignment = tiering::HostArena::kGranularity;

}  // namespace

PerState<std::uint64_t> buffer_bytes_of_window(const WindowPipeline::Options& options,
                                               std::uint64_t buffer_alignment) {
  PerState<std::uint64_t> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto kind = static_cast<StateKind>(i);
    if (kind == StateKind::kGradient && !options.gradients_on_nvme) continue;
    constexpr bool kAccumulated = true;  // the larger of the two gradient formats
    std::uint64_t element_bytes = 0;
    for (const StateFormat& format : options.formats)
      element_bytes = std::max(element_bytes, state_bytes(format, kind, kAccumulated));
    bytes[i] = round_up(options.window_elements * element_bytes, buffer_alignment);
  }
  return bytes;
}

std::uint64_t WindowPipeline::arena_bytes(const Options& options, std::uint64_t buffer_alignment) {
  const PerState<std::uint64_t> bytes = buffer_bytes_of_window(options, buffer_alignment);
  return options.windows * std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0});
}

std::span<std::byte> take_window_memory(const WindowPipeline::Options& options,
                                        tiering::HostArena& arena) {
  return arena.take(WindowPipeline::arena_bytes(options, kAlignment), "optimizer windows");
}

std::vector<Window> make_windows(const WindowPipeline::Options& options,
                                 std::span<std::byte> memory) {
  PerState<std::uint64_t> bytes{};
  if (!memory.empty()) bytes = buffer_bytes_of_window(options, kAlignment);
  std::span<std::byte> free = memory;
  std::vector<Window> windows;
  windows.reserve(options.windows);
  for (std::size_t w = 0; w < options.windows; ++w) {
    PerState<std::span<std::byte>> buffers;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      buffers[i] = free.first(bytes[i]);
      free = free.subspan(bytes[i]);
    }
    windows.emplace_back(buffers);
  }
  return windows;
}

}  // namespace strata::optim_cpu
