#include "strata/aio/path_speed.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "aio/aligned_memory.h"
#include "strata/aio/io_file.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

// Small pages cut a transfer into hundreds of pieces, which costs some disks half of their speed.
constexpr std::size_t kHugePage = 2_MiB;

/// A scratch file. Reads stay in the first half of what was written to it and writes in the second,
/// so that none meets another.
struct Target {
  IoFile file;
  std::uint64_t filled = 0;                ///< bytes from its start
  std::uint64_t started = 0;               ///< transfers of this part so far, in both directions
  std::array<std::uint64_t, 2> of_kind{};  ///< of them, by OpKind
};

/// A transfer under way, again and again: each takes what is next in its file.
struct Slot {
  Target* target = nullptr;
  std::span<std::byte> buffer;
  std::optional<IoTicket> ticket{};
};

/// What is done in a part.
enum class Work : std::uint8_t { kFill, kRead, kWrite, kInTurns };

/// Threads that compute as long as it lives.
class Computation {
 public:
  explicit Computation(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { compute(); });
  }
  Computation(const Computation&) = delete;
  Computation& operator=(const Computation&) = delete;
  ~Computation() {
    is_over_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void compute() {
    std::vector<float> numbers(kNumbers, 1.0F);
    while (!is_over_.load(std::memory_order_relaxed)) {
      for (float& number : numbers) number = number * 0.5F + 1.0F;
    }
  }

  static constexpr std::size_t kNumbers = 1 << 16;
  std::atomic<bool> is_over_ = false;
  std::vector<std::thread> threads_;
};

/// Bytes/s of a part, by OpKind.
using Rates = std::array<double, 2>;

constexpr std::size_t index_of(OpKind kind) { return static_cast<std::size_t>(kind); }

void check_load(std::span<const std::filesystem::path> directories, const PathLoad& load) {
  if (directories.empty()) throw ConfigError("no directory is named whose disk is to be measured");
  const std::uint64_t in_flight = load.operations * load.operation_bytes;
  if (load.turn_bytes == 0 || (in_flight > 0 && load.turn_bytes % load.operation_bytes != 0)) {
    throw ConfigError("turns of " + format_bytes(load.turn_bytes) +
                      " to measure with; they are whole transfers of " +
                      format_bytes(load.operation_bytes));
  }
  if (in_flight > 0 && load.file_bytes >= 2 * in_flight && load.file_bytes % in_flight == 0) return;
  throw ConfigError("a file of " + format_bytes(load.file_bytes) + " to measure with " +
                    std::to_string(load.operations) + " transfers of " +
                    format_bytes(load.operation_bytes) +
                    " at once; it is a multiple of all of them, and has room for them twice");
}

AlignedMemory memory_for(std::size_t bytes) {
  const std::size_t whole = round_up(bytes, kHugePage);
  AlignedMemory memory(static_cast<std::byte*>(std::aligned_alloc(kHugePage, whole)));
  if (!memory) throw std::bad_alloc();
  ::madvise(memory.get(), whole, MADV_HUGEPAGE);
  // Disks that compress must find something to do.
  std::mt19937_64 random;
  for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(memory.get() + i, &word, sizeof word);
  }
  return memory;
}

class Measurement {
 public:
  Measurement(Submitter& queue, std::span<const std::filesystem::path> directories,
              const PathLoad& load, const std::function<void()>& check, const Clock& clock)
      : queue_(queue), load_(load), check_(check), clock_(clock) {
    for (const std::filesystem::path& directory : directories) {
      targets_.push_back({.file = IoFile::create_scratch(directory)});
      targets_.back().file.preallocate(load.file_bytes);
    }
    bytes_ = targets_.size() * load.operations * load.operation_bytes;
    memory_ = memory_for(bytes_);
  }

  PathSpeeds measure() {
    try {
      const IoRegistration registration = queue_.register_memory({memory_.get(), bytes_});
      fill();
      (void)rates_of(Work::kInTurns, load_.settling);
      const Rates both = rates_of(Work::kInTurns, load_.time);
      PathSpeeds speeds;
      if (load_.computing_threads > 0) {
        const Computation computation(load_.computing_threads);
        speeds.beside_compute =
            std::min(1.0, sum_of(rates_of(Work::kInTurns, load_.time)) / sum_of(both));
      }
      speeds.read = rates_of(Work::kRead, load_.time)[index_of(OpKind::kRead)];
      speeds.write = rates_of(Work::kWrite, load_.time)[index_of(OpKind::kWrite)];
      // A second of both has read and written for so many seconds each; what overlaps is above 1.
      const double reading = both[index_of(OpKind::kRead)] / speeds.read;
      const double writing = both[index_of(OpKind::kWrite)] / speeds.write;
      speeds.overlap = std::clamp((reading + writing - 1) / std::min(reading, writing),
                                  PathSpeeds::kOverlapMin, 1.0);
      return speeds;
    } catch (const DeadlineExceeded&) {
      // Left behind on purpose: the kernel may still write to it.
      [[maybe_unused]] std::byte* const lent_for_ever = memory_.release();
      throw;
    }
  }

 private:
  static double sum_of(const Rates& rates) { return rates[0] + rates[1]; }

  void fill() {
    const std::uint64_t least = 2 * load_.operations;  // both halves have room for all in flight
    const std::uint64_t most = load_.file_bytes / load_.operation_bytes;
    std::vector<Slot> slots = new_slots();
    (void)transfer(slots, Work::kFill, load_.time, least, most);
    for (Target& target : targets_) {
      target.filled = target.started / least * least * load_.operation_bytes;
    }
  }

  Rates rates_of(Work work, std::chrono::milliseconds time) {
    std::vector<Slot> slots = new_slots();
    // Both directions get a turn.
    const std::uint64_t least = work == Work::kInTurns ? 2 * turn() : 1;
    const double seconds = transfer(slots, work, time, least, UINT64_MAX);
    Rates rates{};
    for (const Target& target : targets_) {
      for (std::size_t kind = 0; kind < rates.size(); ++kind) {
        rates[kind] += static_cast<double>(target.of_kind[kind] * load_.operation_bytes) / seconds;
      }
    }
    return rates;
  }

  std::vector<Slot> new_slots() {
    std::vector<Slot> slots;
    std::span<std::byte> rest(memory_.get(), bytes_);
    for (Target& target : targets_) {
      target.started = 0;
      target.of_kind = {};
    }
    for (std::size_t i = 0; i < load_.operations; ++i) {
      for (Target& target : targets_) {
        slots.push_back({.target = &target, .buffer = rest.first(load_.operation_bytes)});
        rest = rest.subspan(load_.operation_bytes);
      }
    }
    return slots;
  }

  /// Starts `least` transfers in each file, then goes on until the time is over, but to no more
  /// than `most`. Returns the seconds until the last one is done.
  double transfer(std::vector<Slot>& slots, Work work, std::chrono::milliseconds time,
                  std::uint64_t least, std::uint64_t most) {
    const Time begin = clock_.now();
    for (Slot& slot : slots) start(slot, work);
    for (bool under_way = true; under_way;) {
      check_();
      under_way = false;
      bool has_waited = false;
      for (Slot& slot : slots) {
        if (!slot.ticket) continue;
        // One that is not done is waited for, not all: slots of faster disks go on.
        if (!slot.ticket->done() && std::exchange(has_waited, true)) {
          under_way = true;
          continue;
        }
        std::exchange(slot.ticket, std::nullopt)->wait();
        const bool in_time = clock_.now() < begin + time;
        const std::uint64_t started = slot.target->started;
        if (started >= most || (started >= least && !in_time)) continue;
        start(slot, work);
        under_way = true;
      }
    }
    return std::chrono::duration<double>(clock_.now() - begin).count();
  }

  [[nodiscard]] OpKind kind_of(Work work, std::uint64_t number) const {
    if (work == Work::kRead) return OpKind::kRead;
    if (work != Work::kInTurns) return OpKind::kWrite;
    return number / turn() % 2 == 0 ? OpKind::kRead : OpKind::kWrite;
  }

  /// Transfers of a turn.
  [[nodiscard]] std::uint64_t turn() const { return load_.turn_bytes / load_.operation_bytes; }

  /// Transfers of a kind follow one another, so that two of them meet only when all of a half was
  /// under way in between.
  void start(Slot& slot, Work work) {
    Target& target = *slot.target;
    const OpKind kind = kind_of(work, target.started++);
    std::uint64_t offset = target.of_kind[index_of(kind)]++ * load_.operation_bytes;
    if (work != Work::kFill) {
      const std::uint64_t half = target.filled / 2;
      offset = offset % half + (kind == OpKind::kWrite ? half : 0);
    }
    slot.ticket = queue_.submit(
        {.kind = kind, .file = &target.file, .offset = offset, .buffer = slot.buffer});
  }

  Submitter& queue_;
  const PathLoad& load_;
  const std::function<void()>& check_;
  const Clock& clock_;
  std::vector<Target> targets_;
  std::size_t bytes_ = 0;
  AlignedMemory memory_;
};

}  // namespace

PathSpeeds measure_paths(Submitter& queue, std::span<const std::filesystem::path> directories,
                         const PathLoad& load, const std::function<void()>& check,
                         const Clock& clock) {
  check_load(directories, load);
  return Measurement(queue, directories, load, check, clock).measure();
}

}  // namespace strata::aio
