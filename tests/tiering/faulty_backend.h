#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>

#include "strata/aio/backend.h"

namespace strata::tiering {

/// What goes wrong with one request.
enum class Fault {
  kFlipBit,    ///< one bit of the bytes that come back, or that reach the disk, differs
  kMisdirect,  ///< another place of the file is read or written
  kLose,       ///< a write is reported done and never happens; a read leaves the buffer as it is
  kTear,       ///< a write is reported done and only its first half happens
  kFail,       ///< the disk reports EIO
  kEndOfFile,  ///< the file turns out to be shorter
};

/// What the disk of a test does wrong and when, in the hands of the test.
class DiskScript {
 public:
  /// The next request of this kind has the fault.
  void inject(aio::OpKind kind, Fault fault);
  /// Where misdirected requests go: this many bytes behind the right place.
  void set_misdirection(std::int64_t bytes);
  /// No completion is delivered between hold and release.
  void hold();
  void release();

 private:
  friend class FaultyBackend;
  struct Injection {
    aio::OpKind kind;
    Fault fault;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Injection> injections_;
  std::int64_t misdirection_ = 4096;
  bool held_ = false;
};

/// An I/O engine that transfers while a request is handed in, with the script's faults.
class FaultyBackend final : public aio::Backend {
 public:
  explicit FaultyBackend(std::shared_ptr<DiskScript> script) : script_(std::move(script)) {}

  [[nodiscard]] std::string_view name() const noexcept override { return "faulty"; }
  [[nodiscard]] std::uint32_t capacity() const noexcept override { return 64; }
  [[nodiscard]] std::size_t enqueue(std::span<const aio::Request> requests) override;
  [[nodiscard]] std::size_t reap(std::span<aio::Completion> completions,
                                 std::chrono::nanoseconds timeout) override;
  void wake() noexcept override;

 private:
  std::shared_ptr<DiskScript> script_;
  std::deque<aio::Completion> completed_;  // under the script's mutex
  bool woken_ = false;                     // likewise
};

}  // namespace strata::tiering
