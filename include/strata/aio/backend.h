#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace strata::aio {

enum class OpKind : std::uint8_t { kRead, kWrite };

/// One request as the kernel sees it: already aligned, at most `IoQueueOptions::block_bytes` long.
struct Request {
  OpKind kind;
  int fd;
  std::uint64_t offset;
  std::byte* data;
  std::uint32_t bytes;
  std::uint64_t tag;  ///< handed back in the completion
};

/// The outcome of one request: bytes moved (may be fewer than asked), or a negated errno.
struct Completion {
  std::uint64_t tag;
  std::int64_t result;
};

/// The interface that an I/O engine implements, one file per engine.
///
/// Completion law: for every request that `enqueue` counted as accepted, `reap` delivers exactly
/// one completion, whatever happens to the transfer; for one that was not accepted, none. Thread:
/// `enqueue` and `reap` are called by one thread (IoQueue's driver); `wake` by any. A backend does
/// no splitting, no retries and no accounting: IoQueue does that once for all of them.
class Backend {
 public:
  virtual ~Backend() = default;

  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  /// Requests that may be in flight at once.
  [[nodiscard]] virtual std::uint32_t capacity() const noexcept = 0;

  /// Accepts a prefix of `requests` and returns how many. Fewer than all means "not now": the
  /// engine is full. What was accepted starts now or with the next `reap`, so that an engine can
  /// spend one system call on both. Throws IoError only when the engine itself is unusable.
  [[nodiscard]] virtual std::size_t enqueue(std::span<const Request> requests) = 0;

  /// Waits at most `timeout` for a completion or a `wake`, then stores what has completed.
  /// Returns the number stored; 0 after a time-out or a wake.
  [[nodiscard]] virtual std::size_t reap(std::span<Completion> completions,
                                         std::chrono::nanoseconds timeout) = 0;

  /// Makes a `reap` in progress, or else the next one, return at once.
  virtual void wake() noexcept = 0;
};

/// io_uring through liburing. Throws IoError when the kernel or a sandbox refuses it.
[[nodiscard]] std::unique_ptr<Backend> make_io_uring_backend(std::uint32_t depth);

/// `threads` threads that pread and pwrite. Works wherever files do.
[[nodiscard]] std::unique_ptr<Backend> make_threads_backend(std::uint32_t depth,
                                                            std::uint32_t threads);

}  // namespace strata::aio
