#include "strata/optim_cpu/window_pipeline.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <numeric>
#include <string>
#include <string_view>

#include "optim_cpu/offered_shards.h"
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

/// The smallest over all formats.
std::uint64_t smallest_state_bytes_of(std::span<const StateFormat> formats) {
  std::uint64_t smallest = smallest_state_bytes(formats.front());
  for (const StateFormat& format : formats)
    smallest = std::min(smallest, smallest_state_bytes(format));
  return smallest;
}

void check_options(const WindowPipeline::Options& options, const tiering::ShardStore* store) {
  if (options.windows == 0 || options.window_elements == 0)
    throw ConfigError("optimizer windows: at least one window of at least one element is needed");
  if (options.shards_max == 0)
    throw ConfigError("optimizer windows: shards_max is 0; no shard could ever be offered");
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

}  // namespace

/// Windows are numbered in the order in which they are begun; number n uses place n % windows.
/// Always retired <= updated <= begun <= retired + windows: those from retired are being
/// flushed, those from updated are being fetched or wait for their update, at begun is the next
/// free place.
struct WindowPipeline::Impl {
  enum class Step { kNone, kUnderWay, kFailed };

  Impl(const Options& given, const tiering::HomePlaces& home_places, tiering::HostArena& arena,
       ComputeThreads& compute_threads, Counters& engine_counters)
      : options(given),
        places{home_places.store, home_places.device, &engine_counters},
        counters(engine_counters),
        waits(given.is_beside ? nullptr : &engine_counters),
        threads(compute_threads),
        shards(given.shards_max, given.window_elements) {
    check_options(options, places.store);
    PerState<std::uint64_t> bytes{};  // 0 for a state that is never fetched
    if (places.store != nullptr || places.device != nullptr) {
      bytes = buffer_bytes_of(options, tiering::HostArena::kGranularity);
      memory =
          arena.take(arena_bytes(options, tiering::HostArena::kGranularity), "optimizer windows");
    }
    windows = make_windows(options.windows, bytes, memory);
  }

  [[nodiscard]] ShardRules rules() const {
    return {.formats = options.formats,
            .on_nvme = places.store != nullptr,
            .on_device = places.device != nullptr,
            .gradients_on_nvme = options.gradients_on_nvme};
  }
  [[nodiscard]] Window& window(std::uint64_t number) { return windows[number % windows.size()]; }

  void begin(std::span<const UpdateGroup> groups);
  bool offer(const ShardStates& shard);
  void require_step(std::string_view call) const;
  void require_windows() const;

  Progress pump();
  bool finish();
  bool advance();
  bool wait_for_arrival();
  bool wait_for_departure();
  bool wait_for_room();

  void start_what_can();
  void flush_what_can();
  void fetch_what_can();
  void update_next();
  void retire_oldest();
  [[nodiscard]] std::uint64_t moves() const;

  /// Does `work`; an exception from it ends the step.
  template <class Work>
  auto in_step(Work work) {
    try {
      return work();
    } catch (...) {
      fail();
      throw;
    }
  }
  void fail();

  const Options options;
  const tiering::HomePlaces places;
  Counters& counters;
  Counters* waits;  ///< null: they do not count
  ComputeThreads& threads;
  WeightSink* sink = nullptr;
  std::span<std::byte> memory;  ///< memory of the windows
  std::vector<Window> windows;
  std::uint64_t begun = 0, updated = 0, retired = 0;

  Step step = Step::kNone;
  std::vector<RuleConstants> constants;  ///< constants of the groups
  OfferedShards shards;
  std::uint64_t offered = 0;
};

// ---- the calls of a step, and their order -------------------------------------------------------

void WindowPipeline::Impl::require_step(std::string_view call) const {
  if (step == Step::kUnderWay) return;
  throw UsageError("optimizer step: " + std::string(call) +
                   (step == Step::kFailed
                        ? " after the step has failed; its states are partly updated: bring back "
                          "good ones and begin another step"
                        : " while no step is under way; begin one first"));
}

void WindowPipeline::Impl::require_windows() const {
  if (places.store == nullptr || !places.store->lost_memory()->touches(memory)) return;
  throw DeadlineExceeded(
      "optimizer step: windows are lost to a transfer that never came back; the disk or its file "
      "system is stuck (see dmesg), and only a new process can go on",
      ETIMEDOUT);
}

void WindowPipeline::Impl::begin(std::span<const UpdateGroup> groups) {
  if (step == Step::kUnderWay) {
    throw UsageError("optimizer step: begin while a step is under way; finish that one first");
  }
  check_groups(rules(), groups);
  require_windows();
  constants.clear();
  for (const UpdateGroup& group : groups)
    constants.push_back(constants_of(group.options, group.step));
  shards.clear();
  offered = 0;
  step = Step::kUnderWay;
}

bool WindowPipeline::Impl::offer(const ShardStates& shard) {
  require_step("offer");
  check_shard(rules(), shard, offered, constants.size());
  if (!shards.take(shard)) return false;
  ++offered;
  return true;
}

WindowPipeline::Progress WindowPipeline::Impl::pump() {
  require_step("pump");
  return in_step([&]() -> Progress {
    const std::uint64_t before = moves();
    for (std::uint64_t number = updated; number < begun; ++number)
      window(number).end_what_arrived();
    start_what_can();
    if (updated < begun && window(updated).is_settled()) {
      update_next();
      start_what_can();
    }
    return {.made = moves() != before, .more = !shards.all_complete()};
  });
}

bool WindowPipeline::Impl::finish() {
  require_step("finish");
  return in_step([&] {
    while (!shards.all_complete())
      if (!advance()) return false;
    step = Step::kNone;
    return true;
  });
}

/// Lets go of every transfer.
void WindowPipeline::Impl::fail() {
  step = Step::kFailed;
  for (Window& each : windows) each.abandon();
  begun = updated = retired = 0;
}

// ---- calls that wait ----------------------------------------------------------------------------

/// Updates the next window, or where none is left or has a place, makes a place free. False: not
/// now.
bool WindowPipeline::Impl::advance() {
  start_what_can();
  if (updated == begun) return retired == updated || wait_for_departure();
  if (!wait_for_arrival()) return false;
  update_next();
  return true;
}

/// Waits until the next window to be updated is in memory.
bool WindowPipeline::Impl::wait_for_arrival() {
  Window& next = window(updated);
  while (!next.is_settled()) {
    if (!next.start_transfers(places)) {
      if (!wait_for_room()) return false;
    } else if (next.has_transfers()) {
      next.wait_for_oldest(waits);
      start_what_can();
    }
  }
  return true;
}

/// Waits until the oldest window is back at rest: its place is free then.
bool WindowPipeline::Impl::wait_for_departure() {
  Window& oldest = window(retired);
  while (!oldest.is_settled()) {
    if (!oldest.start_transfers(places)) {
      if (!wait_for_room()) return false;
    } else if (oldest.has_transfers()) {
      oldest.wait_for_oldest(waits);
    }
  }
  retire_oldest();
  return true;
}

/// Waits for the oldest of our transfers, or where there is none, for others to end theirs. False
/// when there is no room even so.
bool WindowPipeline::Impl::wait_for_room() {
  for (std::uint64_t number = retired; number < begun; ++number) {
    if (!window(number).has_transfers()) continue;
    window(number).wait_for_oldest(waits);
    return true;
  }
  const ScopedTimer standing_still(waits, Hop::kFetch, ScopedTimer::Kind::kWait);
  return places.store->wait_for_room(tiering::ShardStore::kPatience);
}

// ---- calls that do not wait ---------------------------------------------------------------------

/// Keeps the disk busy. Writes first: they make places free.
void WindowPipeline::Impl::start_what_can() {
  flush_what_can();
  fetch_what_can();
}

void WindowPipeline::Impl::flush_what_can() {
  for (std::uint64_t number = retired; number < updated; ++number) {
    window(number).end_what_arrived();
    if (!window(number).start_transfers(places)) break;
  }
  while (retired < updated && window(retired).is_settled()) retire_oldest();
}

void WindowPipeline::Impl::fetch_what_can() {
  for (std::uint64_t number = updated;; ++number) {
    if (number == begun) {
      if (!shards.has_window() || begun == retired + windows.size()) return;
      window(begun++).begin(shards.begin_window());
    }
    if (!window(number).start_transfers(places)) return;
  }
}

void WindowPipeline::Impl::update_next() {
  const Window& next = window(updated);
  ScopedTimer busy(counters, Hop::kStep, ScopedTimer::Kind::kBusy, next.name(), next.bytes());
  next.note_reads(busy);
  next.update({constants, threads.instructions().kernels()}, threads);
  if (sink != nullptr) sink->take(next.shard(), next.begin_element(), next.weights());
  window(updated++).begin_flush();
}

void WindowPipeline::Impl::retire_oldest() {
  ++retired;
  shards.end_window();
}

/// A count of all that has come about. A window that has turned to a shard does not count yet.
std::uint64_t WindowPipeline::Impl::moves() const {
  std::uint64_t sum = updated + retired;
  for (const Window& each : windows) sum += each.moves();
  return sum;
}

// ---- the pipeline -------------------------------------------------------------------------------

std::uint64_t WindowPipeline::arena_bytes(const Options& options, std::uint64_t buffer_alignment) {
  const PerState<std::uint64_t> bytes = buffer_bytes_of(options, buffer_alignment);
  return options.windows * std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0});
}

WindowPipeline::WindowPipeline(const Options& options, const tiering::HomePlaces& places,
                               tiering::HostArena& arena, ComputeThreads& threads,
                               Counters& counters)
    : impl_(std::make_unique<Impl>(options, places, arena, threads, counters)) {}

WindowPipeline::~WindowPipeline() = default;

void WindowPipeline::begin(std::span<const UpdateGroup> groups) { impl_->begin(groups); }

bool WindowPipeline::offer(const ShardStates& shard) { return impl_->offer(shard); }

WindowPipeline::Progress WindowPipeline::pump() { return impl_->pump(); }

bool WindowPipeline::advance() {
  impl_->require_step("advance");
  return impl_->in_step([&] { return impl_->advance(); });
}

bool WindowPipeline::finish() { return impl_->finish(); }

bool WindowPipeline::wants_shard() const noexcept {
  return impl_->shards.elements_left() < impl_->windows.size() * impl_->options.window_elements;
}

std::uint64_t WindowPipeline::completed() const noexcept { return impl_->shards.completed(); }

void WindowPipeline::give_weights_to(WeightSink* sink) noexcept { impl_->sink = sink; }

std::span<std::byte> WindowPipeline::memory() const noexcept { return impl_->memory; }

}  // namespace strata::optim_cpu
