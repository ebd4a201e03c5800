#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "strata/aio/operation.h"

namespace strata::aio {

/// One request as the kernel sees it: already aligned, at most `IoQueueOptions::block_bytes` long.
struct Request {
  OpKind kind;
  int fd;
  std::uint64_t offset;
  std::byte* data;
  std::uint32_t bytes;
  std::uint64_t tag;  ///< handed back in the completion; below 2^63
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

  /// Whether the kernel may hold up `enqueue` (a frozen file system, say) for as long as a
  /// transfer. IoQueue then watches the calls of `enqueue`, and gives the engine up when one is
  /// late.
  [[nodiscard]] virtual bool may_wait_in_enqueue() const noexcept { return false; }

  /// Waits at most `timeout` for a completion or a `wake`, then stores what has completed.
  /// Returns the number stored; 0 after a time-out or a wake.
  [[nodiscard]] virtual std::size_t reap(std::span<Completion> completions,
                                         std::chrono::nanoseconds timeout) = 0;

  /// Gives up the requests that were accepted and that the kernel does not have yet: when this
  /// returns, none of them will touch its memory or its file, and each comes back through `reap`
  /// with -ECANCELED, by the completion law. Requests that the kernel has stay as they are.
  /// Thread: the one of `enqueue`. An engine that hands over all it accepts has nothing to do.
  virtual void drop_unstarted() noexcept {}

  /// Makes a `reap` in progress, or else the next one, return at once.
  virtual void wake() noexcept = 0;

  /// Registers memory, or a file, that many requests will use, so that the kernel need not map it
  /// for each of them. An optimisation that may be refused: requests are right with and without it.
  /// Returns "", or why it was not done. Both are forgotten before the memory is unmapped or the
  /// file closed, when no request of theirs is in flight. Threads and exceptions: `enqueue`'s.
  virtual std::string register_memory(std::span<std::byte> /*memory*/) {
    return kNothingToRegister;
  }
  virtual void forget_memory(std::span<std::byte> /*memory*/) noexcept {}
  virtual std::string register_file(int /*fd*/) { return kNothingToRegister; }
  virtual void forget_file(int /*fd*/) noexcept {}

  static constexpr const char* kNothingToRegister = "this engine registers nothing";
};

/// io_uring through liburing. Throws IoError when the kernel or a sandbox refuses it.
[[nodiscard]] std::unique_ptr<Backend> make_io_uring_backend(std::uint32_t depth);

/// Linux AIO through libaio: for kernels and sandboxes without io_uring. Direct files only overlap;
/// buffered ones are transferred inside `enqueue`, which also waits where the file system itself
/// makes a submission wait (a frozen one, say). Throws IoError when the kernel refuses it (EAGAIN:
/// fs.aio-max-nr is used up; EINVAL: before Linux 4.18). Destroyed with requests in flight, it
/// leaves its context to the end of the process rather than wait for them.
[[nodiscard]] std::unique_ptr<Backend> make_libaio_backend(std::uint32_t depth);

/// `threads` threads that pread and pwrite, on the cores of `numa_node` (-1: anywhere) if they can
/// be had. Works wherever files do.
[[nodiscard]] std::unique_ptr<Backend> make_threads_backend(std::uint32_t depth,
                                                            std::uint32_t threads,
                                                            int numa_node = -1);

/// Moves nothing and reports everything as moved, to measure the layers above it. A buffer that is
/// read into keeps its bytes.
[[nodiscard]] std::unique_ptr<Backend> make_null_backend(std::uint32_t depth);

}  // namespace strata::aio
