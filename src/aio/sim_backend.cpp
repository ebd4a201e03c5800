#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "aio/aligned_memory.h"
#include "strata/aio/backend.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::aio {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

// What direct transfers ask of memory at most.
constexpr std::size_t kMemoryAlignment = 64 << 10;

enum class Fate : std::uint8_t {
  kWhole,
  kShort,
  kTryAgain,
  kFailure,
  kTornWrite,
  kLostWrite,
  kFlippedBit,
  kNever,
};

/// What will happen to a request. Drawn with the same number of random words whatever it is, so
/// that the fate of a request depends on nothing but its place in the order of all requests.
struct Plan {
  Fate fate;
  std::uint64_t detail;  // which prefix, bit or errno
  nanoseconds latency;
};

class Oracle {
 public:
  explicit Oracle(const SimOptions& options) : options_(options), random_(options.seed) {}

  Plan next(OpKind kind) {
    const double draw = fraction();
    const double wait = fraction();
    const nanoseconds span = options_.latency_max - options_.latency_min;
    return {.fate = fate_of(kind, draw),
            .detail = random_(),
            .latency = options_.latency_min + nanoseconds(static_cast<std::int64_t>(
                                                  static_cast<double>(span.count()) * wait))};
  }

 private:
  /// In [0, 1), the same on every machine, which the standard's distributions do not promise.
  double fraction() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

  Fate fate_of(OpKind kind, double draw) const {
    const bool reading = kind == OpKind::kRead;
    const std::pair<double, Fate> fates[] = {
        {options_.short_transfer, Fate::kShort},
        {options_.try_again, Fate::kTryAgain},
        {options_.failure, Fate::kFailure},
        {reading ? 0 : options_.torn_write, Fate::kTornWrite},
        {reading ? 0 : options_.lost_write, Fate::kLostWrite},
        {reading ? options_.flipped_bit : 0, Fate::kFlippedBit},
        {options_.never, Fate::kNever},
    };
    for (const auto& [probability, fate] : fates) {
      if (draw < probability) return fate;
      draw -= probability;
    }
    return Fate::kWhole;
  }

  const SimOptions options_;
  std::mt19937_64 random_;
};

/// The bytes' side of the simulated disk: carries out a request as its fate says.
class Platter {
 public:
  /// Bytes moved as the disk reports them, or a negated errno.
  std::int64_t serve(const Request& request, Fate fate, std::uint64_t detail) {
    switch (fate) {
      case Fate::kShort: return move_part(request, part_of(request, detail));
      case Fate::kTryAgain: return detail % 2 == 0 ? -EINTR : -EAGAIN;
      case Fate::kFailure: return -EIO;
      case Fate::kTornWrite: {
        const std::int64_t moved = write_part(request, part_of(request, detail));
        return moved < 0 ? moved : std::int64_t{request.bytes};
      }
      case Fate::kLostWrite: return request.bytes;
      case Fate::kFlippedBit: return read_with_flipped_bit(request, detail);
      case Fate::kWhole:
      case Fate::kNever: break;
    }
    return move(request, request.data, request.bytes);
  }

 private:
  static std::int64_t move(const Request& request, std::byte* data, std::size_t bytes) {
    const auto offset = static_cast<off_t>(request.offset);
    const ssize_t moved = request.kind == OpKind::kRead ? ::pread(request.fd, data, bytes, offset)
                                                        : ::pwrite(request.fd, data, bytes, offset);
    return moved >= 0 ? moved : -errno;
  }

  /// Fewer bytes than asked, at least 1.
  static std::uint32_t part_of(const Request& request, std::uint64_t detail) {
    return request.bytes < 2 ? request.bytes
                             : static_cast<std::uint32_t>(1 + detail % (request.bytes - 1));
  }

  std::int64_t move_part(const Request& request, std::uint32_t bytes) {
    return request.kind == OpKind::kRead ? read_part(request, bytes) : write_part(request, bytes);
  }

  /// What is behind the part that was moved is not for use, and is made to show it.
  std::int64_t read_part(const Request& request, std::uint32_t bytes) {
    constexpr std::byte kJunk{0xdb};
    const std::int64_t moved =
        std::min<std::int64_t>(move(request, request.data, request.bytes), bytes);
    if (moved >= 0) std::fill(request.data + moved, request.data + request.bytes, kJunk);
    return moved;
  }

  /// Direct transfers are of whole blocks: the rest is written as it is on the disk already.
  std::int64_t write_part(const Request& request, std::uint32_t bytes) {
    std::byte* const image = scratch(request.bytes);
    Request old = request;
    old.kind = OpKind::kRead;
    const std::int64_t there = move(old, image, request.bytes);
    if (there < 0) return there;
    std::copy_n(request.data, bytes, image);
    const auto end = static_cast<std::size_t>(std::max<std::int64_t>(there, bytes));
    return std::min<std::int64_t>(move(request, image, end), bytes);
  }

  std::int64_t read_with_flipped_bit(const Request& request, std::uint64_t detail) {
    const std::int64_t moved = move(request, request.data, request.bytes);
    if (moved > 0) {
      const std::uint64_t bit = detail % (8 * static_cast<std::uint64_t>(moved));
      request.data[bit / 8] ^= std::byte{1} << bit % 8;
    }
    return moved;
  }

  std::byte* scratch(std::size_t bytes) {
    if (bytes > scratch_bytes_) {
      scratch_bytes_ = round_up(bytes, kMemoryAlignment);
      scratch_ = make_zeroed_memory(kMemoryAlignment, scratch_bytes_);
    }
    return scratch_.get();
  }

  AlignedMemory scratch_;
  std::size_t scratch_bytes_ = 0;
};

/// A request on its way, due at a time.
struct Pending {
  Request request;
  Plan plan;
  Clock::time_point due;
  std::uint64_t number;  // in the order of acceptance

  /// For a queue whose top is the one due first.
  bool operator<(const Pending& other) const {
    return due != other.due ? due > other.due : number > other.number;
  }
};

/// Bytes move when a request is due, not before: until then its buffer is really in use.
class SimBackend final : public Backend {
 public:
  explicit SimBackend(const SimOptions& options) : options_(options), oracle_(options) {}

  std::string_view name() const noexcept override { return "sim"; }
  std::uint32_t capacity() const noexcept override { return options_.depth; }
  std::size_t enqueue(std::span<const Request> requests) override;
  std::size_t reap(std::span<Completion> completions, nanoseconds timeout) override;
  void drop_unstarted() noexcept override { dropped_before_ = accepted_; }
  void wake() noexcept override;

 private:
  Clock::time_point due_time(const Request& request, const Plan& plan, Clock::time_point now);
  void sleep_until(Clock::time_point limit);

  const SimOptions options_;
  Oracle oracle_;
  Platter platter_;
  std::priority_queue<Pending> pending_;
  std::uint32_t in_flight_ = 0;  // accepted and not yet handed back
  std::uint64_t accepted_ = 0;
  std::uint64_t dropped_before_ = 0;  // requests of lower numbers move no bytes any more
  Clock::time_point channel_free_{};  // when the bytes of all requests so far have passed

  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
};

std::size_t SimBackend::enqueue(std::span<const Request> requests) {
  const auto count = std::min<std::size_t>(requests.size(), options_.depth - in_flight_);
  const Clock::time_point now = Clock::now();
  for (const Request& request : requests.first(count)) {
    const Plan plan = oracle_.next(request.kind);
    const std::uint64_t number = accepted_++;
    if (plan.fate == Fate::kNever) continue;
    pending_.push({request, plan, due_time(request, plan, now), number});
  }
  in_flight_ += static_cast<std::uint32_t>(count);
  return count;
}

Clock::time_point SimBackend::due_time(const Request& request, const Plan& plan,
                                       Clock::time_point now) {
  const double rate = request.kind == OpKind::kRead ? options_.read_bytes_per_second
                                                    : options_.write_bytes_per_second;
  const auto transfer = std::chrono::duration<double>(request.bytes / rate);
  channel_free_ =
      std::max(channel_free_, now) + std::chrono::duration_cast<Clock::duration>(transfer);
  return channel_free_ + plan.latency;
}

std::size_t SimBackend::reap(std::span<Completion> completions, nanoseconds timeout) {
  Clock::time_point limit = Clock::now() + timeout;
  if (!pending_.empty()) limit = std::min(limit, pending_.top().due);
  sleep_until(limit);
  const Clock::time_point now = Clock::now();
  std::size_t stored = 0;
  while (stored < completions.size() && !pending_.empty() && pending_.top().due <= now) {
    const Pending& next = pending_.top();
    const std::int64_t result =
        next.number < dropped_before_
            ? -ECANCELED
            : platter_.serve(next.request, next.plan.fate, next.plan.detail);
    completions[stored++] = {.tag = next.request.tag, .result = result};
    pending_.pop();
  }
  in_flight_ -= static_cast<std::uint32_t>(stored);
  return stored;
}

void SimBackend::sleep_until(Clock::time_point limit) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, limit, [&] { return woken_; });
  woken_ = false;
}

void SimBackend::wake() noexcept {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

void require(bool valid, const std::string& rule) {
  if (!valid) throw ConfigError("simulated disk: " + rule);
}

void check(const SimOptions& options) {
  require(options.depth > 0, "depth must not be zero");
  require(options.latency_min.count() >= 0 && options.latency_min <= options.latency_max,
          "latencies must satisfy 0 <= latency_min <= latency_max");
  require(options.read_bytes_per_second > 0 && options.write_bytes_per_second > 0,
          "both rates must be above zero");
  const double both = options.short_transfer + options.try_again + options.failure + options.never;
  const double of_reads = both + options.flipped_bit;
  const double of_writes = both + options.torn_write + options.lost_write;
  for (const double probability :
       {options.short_transfer, options.try_again, options.failure, options.torn_write,
        options.lost_write, options.flipped_bit, options.never}) {
    require(probability >= 0, "a probability is " + std::to_string(probability));
  }
  require(of_reads <= 1 && of_writes <= 1,
          "the probabilities of what can strike a read or a write add up to " +
              std::to_string(std::max(of_reads, of_writes)) + "; 1 is the most");
}

}  // namespace

std::unique_ptr<Backend> make_sim_backend(const SimOptions& options) {
  check(options);
  return std::make_unique<SimBackend>(options);
}

}  // namespace strata::aio
