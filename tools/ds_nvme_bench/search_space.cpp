#include "search_space.h"

#include <algorithm>
#include <cmath>

#include "plural.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

/// The value `steps` places from `value` on an axis; `value` itself at the ends.
template <typename T>
T step_along(const std::vector<T>& axis, T value, int steps) {
  const auto at = std::find(axis.begin(), axis.end(), value) - axis.begin();
  return axis[static_cast<std::size_t>(
      std::clamp<std::ptrdiff_t>(at + steps, 0, std::ssize(axis) - 1))];
}

/// The value of an axis that is nearest to `wish` from below, or its first.
template <typename T>
T nearest(const std::vector<T>& axis, T wish) {
  const auto above = std::upper_bound(axis.begin(), axis.end(), wish);
  return above == axis.begin() ? axis.front() : *std::prev(above);
}

void add_new(std::vector<Setting>& settings, const Setting& setting, const SearchSpace& space) {
  const bool known = std::find(settings.begin(), settings.end(), setting) != settings.end();
  if (!known && space.allows(setting)) settings.push_back(setting);
}

}  // namespace

Point Setting::point(Workload workload) const {
  Point point;
  point.workload = workload;
  point.engine = engine;
  point.block_bytes = block_bytes;
  point.depth = depth;
  point.threads = threads;
  return point;
}

std::string describe(const Setting& setting) {
  return std::string(name_of(setting.engine)) + ", " + format_bytes(setting.block_bytes) +
         ", depth " + std::to_string(setting.depth) + ", " +
         tool::counted(setting.threads, "thread");
}

SearchSpace SearchSpace::usual(std::vector<IoBackend> engines, std::uint32_t cores,
                               std::uint64_t file_bytes) {
  constexpr std::uint32_t kThreadsMax = 16;
  SearchSpace space;
  space.engines = std::move(engines);
  space.file_bytes = file_bytes;
  for (std::uint64_t bytes = 128_KiB; bytes <= 16_MiB; bytes *= 2) space.blocks.push_back(bytes);
  for (std::uint32_t depth = 1; depth <= 128; depth *= 2) space.depths.push_back(depth);
  const std::uint32_t threads_max = std::clamp(cores, 1u, kThreadsMax);
  for (std::uint32_t threads = 1; threads <= threads_max; threads *= 2) {
    space.threads.push_back(threads);
  }
  return space;
}

bool SearchSpace::allows(const Setting& setting) const {
  return setting.bytes_in_flight() <= in_flight_bytes_max &&
         setting.block_bytes <= file_bytes / setting.threads;
}

std::vector<Setting> SearchSpace::all() const {
  std::vector<Setting> settings;
  for (const IoBackend engine : engines) {
    for (const std::uint64_t block : blocks) {
      for (const std::uint32_t depth : depths) {
        for (const std::uint32_t count : threads) {
          add_new(settings, {engine, block, depth, count}, *this);
        }
      }
    }
  }
  return settings;
}

std::vector<Setting> SearchSpace::lattice() const {
  std::vector<Setting> settings;
  for (const IoBackend engine : engines) {
    for (const std::uint64_t block : {256_KiB, 1_MiB, 4_MiB}) {
      for (const std::uint32_t depth : {4u, 16u, 64u}) {
        add_new(settings, {engine, nearest(blocks, block), nearest(depths, depth), threads.front()},
                *this);
      }
    }
    for (const std::uint32_t count : threads) {
      add_new(settings, {engine, nearest(blocks, 1_MiB), nearest(depths, 16u), count}, *this);
    }
  }
  // Goes from the middle outwards, engine by engine: a search that is cut short has seen them all.
  const auto distance = [](const Setting& setting) {
    const auto steps = [](auto a, auto b) {
      return std::abs(std::log2(static_cast<double>(a) / static_cast<double>(b)));
    };
    return steps(setting.block_bytes, 1_MiB) + steps(setting.depth, 16u) + setting.threads;
  };
  std::ranges::stable_sort(settings, {}, distance);
  return settings;
}

std::vector<Setting> SearchSpace::neighbours(const Setting& setting) const {
  std::vector<Setting> settings = {setting};
  const auto [engine, block, depth, count] = setting;
  for (const int step : {1, -1}) {
    add_new(settings, {engine, step_along(blocks, block, step), depth, count}, *this);
    add_new(settings, {engine, block, step_along(depths, depth, step), count}, *this);
    add_new(settings, {engine, block, depth, step_along(threads, count, step)}, *this);
    add_new(settings,
            {engine, step_along(blocks, block, step), step_along(depths, depth, -step), count},
            *this);
  }
  for (const IoBackend other : engines) add_new(settings, {other, block, depth, count}, *this);
  settings.erase(settings.begin());
  return settings;
}

}  // namespace strata::nvme_bench
