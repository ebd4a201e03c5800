#include "strata/optim_cpu/window_pipeline.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <numeric>
#include <string>

#include "optim_cpu/window.h"
#include "strata/base/error.h"

namespace strata::optim_cpu {
namespace {

void check_formats(std::span<const StateFormat> formats) {
  if (formats.empty())
    throw ConfigError("optimizer windows: no state format is given; name those of all shards");
  for (const StateFormat& format : formats)
    if (format.has_m != formats.front().has_m || format.has_v != formats.front().has_v)
      throw ConfigError(
          "optimizer windows: the state formats have different moments; one optimizer keeps the "
          "same ones for all shards");
}

/// Of all formats.
std::uint64_t smallest_state_bytes_of(std::span<const StateFormat> formats) {
  std::uint64_t smallest = smallest_state_bytes(formats.front());
  for (const StateFormat& format : formats)
    smallest = std::min(smallest, smallest_state_bytes(format));
  return smallest;
}

void check_options(const WindowPipeline::Options& options, const tiering::ShardStore* store) {
  if (options.windows == 0 || options.window_elements == 0)
    throw ConfigError("optimizer windows: at least one window of at least one element is needed");
  check_formats(options.formats);
  const std::uint64_t smallest = smallest_state_bytes_of(options.formats);
  if (store != nullptr && options.window_elements * smallest % store->chunk_bytes() != 0)
    throw ConfigError("optimizer windows: " + std::to_string(options.window_elements) +
                      " elements of " + std::to_string(smallest) +
                      " bytes are no multiple of the store's chunk of " +
                      std::to_string(store->chunk_bytes()) + " bytes; choose a multiple of " +
                      std::to_string(store->chunk_bytes() / smallest) + " elements");
}

PerState<std::uint64_t> buffer_bytes_of(const WindowPipeline::Options& options,
                                        std::uint64_t alignment) {
  return window_buffer_bytes(options.formats, options.window_elements, options.gradients_on_nvme,
                             alignment);
}

/// Goes through all shards window by window, one after the other, past those windows in which
/// nothing is updated.
class WindowCursor {
 public:
  WindowCursor(std::span<const ShardStates> shards, std::uint64_t window_elements)
      : shards_(shards), window_elements_(window_elements) {
    skip_what_rests();
  }

  [[nodiscard]] bool at_end() const { return shards_.empty(); }

  WindowRange next() {
    const WindowRange range{&shards_.front(), begin_, end()};
    begin_ = range.end;
    skip_what_rests();
    return range;
  }

 private:
  [[nodiscard]] std::uint64_t end() const {
    return std::min(begin_ + window_elements_, shards_.front().count);
  }

  void skip_what_rests() {
    while (!shards_.empty()) {
      if (begin_ == shards_.front().count) {
        shards_ = shards_.subspan(1);
        begin_ = 0;
      } else if (!has_updates({&shards_.front(), begin_, end()})) {
        begin_ = end();
      } else {
        return;
      }
    }
  }

  std::span<const ShardStates> shards_;
  std::uint64_t window_elements_;
  std::uint64_t begin_ = 0;
};

/// How long the queue may be full of other people's transfers.
constexpr std::chrono::seconds kPatience{90};

}  // namespace

/// Windows are numbered in the order in which they are begun; number n uses place n % windows.
/// Always retired <= updated <= begun <= retired + windows: those from retired are being
/// flushed, those from updated are being fetched or wait for their update, at begun is the next
/// free place.
struct WindowPipeline::Impl {
  Impl(const Options& given, tiering::ShardStore* shard_store, tiering::HostArena& arena,
       ComputeThreads& compute_threads, Counters& engine_counters)
      : options(given), store(shard_store), counters(engine_counters), threads(compute_threads) {
    check_options(options, store);
    PerState<std::uint64_t> bytes{};  // none where nothing is ever fetched
    if (store != nullptr) {
      bytes = buffer_bytes_of(options, tiering::HostArena::kGranularity);
      memory =
          arena.take(arena_bytes(options, tiering::HostArena::kGranularity), "optimizer windows");
    }
    windows = make_windows(options.windows, bytes, memory);
  }

  [[nodiscard]] ShardRules rules() const {
    return {.formats = options.formats,
            .on_nvme = store != nullptr,
            .gradients_on_nvme = options.gradients_on_nvme};
  }
  [[nodiscard]] Window& window(std::uint64_t number) { return windows[number % windows.size()]; }

  void run(WindowCursor cursor, const StepContext& context);
  void start_what_can(WindowCursor& cursor);
  void flush_what_can();
  void fetch_what_can(WindowCursor& cursor);
  void wait_for_arrival(WindowCursor& cursor);
  void wait_for_departure();
  void start_all(Window& needed);
  void wait_for_room();
  void abandon();

  const Options options;
  tiering::ShardStore* const store;
  Counters& counters;
  ComputeThreads& threads;
  std::span<std::byte> memory;  ///< of the windows
  std::vector<Window> windows;
  std::uint64_t begun = 0, updated = 0, retired = 0;
};

void WindowPipeline::Impl::run(WindowCursor cursor, const StepContext& context) {
  begun = updated = retired = 0;
  for (;;) {
    start_what_can(cursor);
    if (updated == begun) {  // no window is left, or no place for one
      if (retired == updated) return;
      wait_for_departure();
      continue;
    }
    wait_for_arrival(cursor);
    {
      const ScopedTimer busy(counters, Hop::kStep, ScopedTimer::Kind::kBusy);
      window(updated).update(context, threads);
    }
    window(updated++).begin_flush();
  }
}

/// Keeps the disk busy without waiting for it. Writes first: they make places free.
void WindowPipeline::Impl::start_what_can(WindowCursor& cursor) {
  flush_what_can();
  fetch_what_can(cursor);
}

void WindowPipeline::Impl::flush_what_can() {
  for (std::uint64_t number = retired; number < updated; ++number)
    if (!window(number).start_transfers(store)) break;
  while (retired < updated && window(retired).all_done()) wait_for_departure();
}

void WindowPipeline::Impl::fetch_what_can(WindowCursor& cursor) {
  for (std::uint64_t number = updated;; ++number) {
    if (number == begun) {
      if (cursor.at_end() || begun == retired + windows.size()) return;
      window(begun++).begin(cursor.next());
    }
    if (!window(number).start_transfers(store)) return;
  }
}

/// Waits until the next window to be updated is in memory.
void WindowPipeline::Impl::wait_for_arrival(WindowCursor& cursor) {
  Window& next = window(updated);
  start_all(next);
  while (next.has_transfers()) {
    next.wait_for_oldest(counters);
    start_what_can(cursor);
  }
}

/// Waits until the oldest window is back at rest: its place is free then.
void WindowPipeline::Impl::wait_for_departure() {
  Window& oldest = window(retired);
  start_all(oldest);
  while (oldest.has_transfers()) oldest.wait_for_oldest(counters);
  ++retired;
}

void WindowPipeline::Impl::start_all(Window& needed) {
  while (!needed.start_transfers(store)) wait_for_room();
}

/// Waits for the oldest of our transfers, or where there is none, for others to end theirs.
void WindowPipeline::Impl::wait_for_room() {
  for (std::uint64_t number = retired; number < begun; ++number)
    if (window(number).has_transfers()) return window(number).wait_for_oldest(counters);

  const ScopedTimer standing_still(counters, Hop::kFetch, ScopedTimer::Kind::kWait);
  if (store->wait_for_room(kPatience)) return;
  throw DeadlineExceeded(
      "optimizer step: the I/O queue has no room for a window, though none of its transfers is "
      "ours, and " +
          std::to_string(kPatience.count()) +
          " s of waiting make none; wait for prefetched shards before the step, or raise the "
          "queue's operations_max",
      ETIMEDOUT);
}

void WindowPipeline::Impl::abandon() {
  for (Window& each : windows) each.abandon();
}

std::uint64_t WindowPipeline::arena_bytes(const Options& options, std::uint64_t buffer_alignment) {
  const PerState<std::uint64_t> bytes = buffer_bytes_of(options, buffer_alignment);
  return options.windows * std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0});
}

WindowPipeline::WindowPipeline(const Options& options, tiering::ShardStore* store,
                               tiering::HostArena& arena, ComputeThreads& threads,
                               Counters& counters)
    : impl_(std::make_unique<Impl>(options, store, arena, threads, counters)) {}

WindowPipeline::~WindowPipeline() = default;

std::span<std::byte> WindowPipeline::memory() const noexcept { return impl_->memory; }

void WindowPipeline::run(std::span<const ShardStates> shards, std::span<const UpdateGroup> groups) {
  const ShardRules rules = impl_->rules();
  check_groups(rules, groups);
  for (std::size_t index = 0; index < shards.size(); ++index)
    check_shard(rules, shards[index], index, groups.size());
  std::vector<RuleConstants> constants;
  for (const UpdateGroup& group : groups)
    constants.push_back(constants_of(group.options, group.step));
  try {
    impl_->run(WindowCursor(shards, impl_->options.window_elements), {constants, chosen_kernels()});
  } catch (...) {
    impl_->abandon();
    throw;
  }
}

}  // namespace strata::optim_cpu
