#include "strata/aio/path_speed.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <random>
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
  std::uint64_t filled = 0;  ///< bytes from its start
};

/// A transfer under way, again and again. Slot i takes each i-th of as many blocks as there are
/// slots, so that no two of them meet.
struct Slot {
  Target* target = nullptr;
  OpKind kind = OpKind::kRead;
  std::uint64_t number = 0;
  std::span<std::byte> buffer;
  std::uint64_t count = 0;  ///< transfers so far
  std::optional<IoTicket> ticket{};
};

/// Bytes/s of a part, by OpKind.
using Rates = std::array<double, 2>;

constexpr std::size_t index_of(OpKind kind) { return static_cast<std::size_t>(kind); }

void check_load(std::span<const std::filesystem::path> directories, const PathLoad& load) {
  if (directories.empty()) throw ConfigError("no directory is named whose disk is to be measured");
  const std::uint64_t in_flight = load.operations * load.operation_bytes;
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
      const auto kind_in_turn = [](std::size_t slot) {
        return slot % 2 == 0 ? OpKind::kRead : OpKind::kWrite;
      };
      (void)rates_of(kind_in_turn, load_.settling);
      const Rates both = rates_of(kind_in_turn, load_.time);
      PathSpeeds speeds{.read = alone(OpKind::kRead), .write = alone(OpKind::kWrite)};
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
  enum class Place { kInOrder, kInHalves };

  /// Bytes of a file when each slot has gone once.
  [[nodiscard]] std::uint64_t round_bytes() const {
    return load_.operations * load_.operation_bytes;
  }

  void fill() {
    std::vector<Slot> slots = slots_in([](std::size_t) { return OpKind::kWrite; });
    const std::uint64_t rounds_max = load_.file_bytes / round_bytes();
    // Both halves have room for all that is in flight.
    (void)transfer(slots, Place::kInOrder, load_.time, /*least=*/2, rounds_max);
    for (Target& target : targets_) target.filled = rounds_max * round_bytes();
    for (const Slot& slot : slots) {
      std::uint64_t& filled = slot.target->filled;
      filled = std::min(filled, slot.count / 2 * 2 * round_bytes());
    }
  }

  double alone(OpKind kind) {
    return rates_of([kind](std::size_t) { return kind; }, load_.time)[index_of(kind)];
  }

  /// Transfers, slot i of each file in the direction kind_of(i).
  template <class KindOf>
  Rates rates_of(KindOf kind_of, std::chrono::milliseconds time) {
    std::vector<Slot> slots = slots_in(kind_of);
    const double seconds = transfer(slots, Place::kInHalves, time, /*least=*/1, UINT64_MAX);
    Rates rates{};
    for (const Slot& slot : slots) {
      rates[index_of(slot.kind)] +=
          static_cast<double>(slot.count * load_.operation_bytes) / seconds;
    }
    return rates;
  }

  template <class KindOf>
  std::vector<Slot> slots_in(KindOf kind_of) {
    std::vector<Slot> slots;
    std::span<std::byte> rest(memory_.get(), bytes_);
    for (std::size_t i = 0; i < load_.operations; ++i) {
      for (Target& target : targets_) {
        slots.push_back({.target = &target,
                         .kind = kind_of(i),
                         .number = i,
                         .buffer = rest.first(load_.operation_bytes)});
        rest = rest.subspan(load_.operation_bytes);
      }
    }
    return slots;
  }

  /// Lets each slot go `least` times, then on until the time is over, but no more than `most`
  /// times. Returns the seconds until the last one is done.
  double transfer(std::vector<Slot>& slots, Place place, std::chrono::milliseconds time,
                  std::uint64_t least, std::uint64_t most) {
    const Time begin = clock_.now();
    for (Slot& slot : slots) start(slot, place);
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
        if (slot.count >= most || (slot.count >= least && !in_time)) continue;
        start(slot, place);
        under_way = true;
      }
    }
    return std::chrono::duration<double>(clock_.now() - begin).count();
  }

  void start(Slot& slot, Place place) {
    std::uint64_t offset = (slot.count * load_.operations + slot.number) * load_.operation_bytes;
    if (place == Place::kInHalves) {
      const std::uint64_t half = slot.target->filled / 2;
      offset = offset % half + (slot.kind == OpKind::kWrite ? half : 0);
    }
    slot.ticket = queue_.submit(
        {.kind = slot.kind, .file = &slot.target->file, .offset = offset, .buffer = slot.buffer});
    ++slot.count;
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
