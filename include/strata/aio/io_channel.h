#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "strata/aio/io_queue.h"

namespace strata::aio {

/// An IoQueue without a thread: the caller drives the backend, in turns, from the one thread that
/// uses the channel. No hand-over between threads, so the least latency and CPU time; but transfers
/// are issued and worked off only inside `reap`, and a call that the kernel holds up
/// (`Backend::may_wait_in_enqueue`) holds up the caller, deadlines or not. For programs whose
/// thread has nothing else to do.
///
/// Everything above the backend is IoQueue's: splitting, short transfers, retries, deadlines,
/// statistics, and its completion law. An operation submitted under a tag comes back through `reap`
/// exactly once; the outcome of one submitted for a ticket is the ticket's. An operation with a tag
/// is issued by the next `reap`, one with a ticket at once; both are worked off whenever somebody
/// reaps, waits or asks a ticket whether it is done. Nothing is allocated per operation, except for
/// the error of one that failed.
class IoChannel final : public Submitter {
 public:
  /// Same as IoQueue's. The thread stays where the caller put it: `numa_node` does not apply.
  IoChannel(const IoQueueOptions& options, const std::filesystem::path& probe_directory,
            Logger& log);
  IoChannel(const IoQueueOptions& options, std::unique_ptr<Backend> backend, Logger& log);
  /// Takes back what was accepted, or gives it up at its deadline.
  ~IoChannel();
  IoChannel(const IoChannel&) = delete;
  IoChannel& operator=(const IoChannel&) = delete;

  /// Accepts the operation, or returns false ("not now") when `operations_max` are unfinished.
  /// Throws what the overload that returns a ticket throws.
  [[nodiscard]] bool try_submit(const Operation& operation, std::uint64_t tag);

  /// Issues what was accepted, waits at most `timeout` for an operation with a tag to finish and
  /// stores the finished ones. Returns the number stored; 0 after a time-out, and at once when none
  /// is unfinished.
  [[nodiscard]] std::size_t reap(std::span<IoOutcome> outcomes, std::chrono::nanoseconds timeout);

  [[nodiscard]] std::optional<IoTicket> try_submit(const Operation& operation) override;
  [[nodiscard]] IoTicket submit(const Operation& operation) override;
  [[nodiscard]] bool wait_for_room(std::chrono::nanoseconds timeout) override;
  /// Both register at once. They throw IoError when the engine is unusable.
  [[nodiscard]] IoRegistration register_memory(std::span<std::byte> memory) override;
  [[nodiscard]] IoRegistration register_file(const IoFile& file) override;
  [[nodiscard]] std::uint32_t operations_max() const noexcept override;
  [[nodiscard]] std::shared_ptr<const LostMemory> lost_memory() const noexcept override;

  /// Operations accepted under a tag and not yet handed back.
  [[nodiscard]] std::uint32_t unfinished() const noexcept;
  [[nodiscard]] IoStatistics statistics() const;
  [[nodiscard]] const IoQueueOptions& options() const noexcept;
  [[nodiscard]] const std::string& description() const noexcept;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with the tickets
};

}  // namespace strata::aio
