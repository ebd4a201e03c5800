#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "strata/base/units.h"
#include "strata/tiering/device.h"
#include "support/race_clock.h"
#include "support/shadow_memory.h"
#include "support/sim_stream.h"
#include "tiering/live_memory.h"

namespace strata::support {

/// What a simulated device has and what goes wrong with it. What is counted is counted from 1, in
/// the order of the host's calls; 0: none.
struct SimDeviceOptions {
  std::uint64_t capacity_bytes = 64_MiB;
  std::uint64_t address_space_bytes = 1_GiB;  ///< used up once, by all that is ever taken

  std::uint64_t seed = 0;                  ///< of the delays
  std::chrono::microseconds max_delay{0};  ///< an operation begins up to this much late

  std::size_t fail_allocation = 0;  ///< this one finds the memory used up
  std::size_t fail_operation = 0;   ///< this one fails, and with it the device for good
  std::size_t hang_operation = 0;   ///< this one never ends, and with it its stream
  std::size_t suppress_wait = 0;    ///< the clock is not told of this one of `waits()`
  bool refuse_registration = false;
};

/// An accelerator in a test: each stream is a thread, the host faults when it touches device
/// memory, fresh memory is poison, and a RaceClock is told of everything, so that an access which
/// no event orders is reported also where its value came out right.
///
/// Of host memory the clock knows what copies do and what it is told (`note_host_read`,
/// `note_host_write`, `host_access`). Giving back
/// memory, of the device or registered, counts as writing to it. Operations are numbered in
/// reports, "copy_to_host #7", as the options above count them.
class SimDevice final : public tiering::Device {
 public:
  using DeviceSpan = tiering::DeviceSpan;
  using StreamRole = tiering::StreamRole;
  using Ranges = std::vector<AddressRange>;

  explicit SimDevice(const SimDeviceOptions& options = {});
  ~SimDevice() override;

  // ---- the contract ----
  [[nodiscard]] const tiering::DeviceProperties& properties() const noexcept override {
    return properties_;
  }
  [[nodiscard]] tiering::DeviceMemory allocate(std::uint64_t bytes, std::string_view what) override;
  [[nodiscard]] std::optional<std::span<std::byte>> host_view(DeviceSpan range) override;
  [[nodiscard]] tiering::HostRegistration register_host(std::span<std::byte> memory,
                                                        std::string_view what) override;
  void copy_to_device(StreamRole stream, std::span<const std::byte> from, DeviceSpan to) override;
  void copy_to_host(StreamRole stream, DeviceSpan from, std::span<std::byte> to) override;
  void copy_within(StreamRole stream, DeviceSpan from, DeviceSpan to) override;
  void fill(StreamRole stream, DeviceSpan range, std::byte value) override;
  void note_host_read(std::span<const std::byte> memory) override;
  void note_host_write(std::span<const std::byte> memory) override;
  [[nodiscard]] tiering::Event record(StreamRole stream) override;
  void wait(StreamRole stream, const tiering::Event& event) override;

  // ---- operations of a test's own ----
  /// Puts `function` on a stream as an operation that touches these ranges. What it throws makes
  /// the device fail. It reaches device memory through `touchable`. What it holds goes when it has
  /// run, on the thread of the stream.
  void run_on(StreamRole stream, const std::string& name, const Ranges& reads, const Ranges& writes,
              std::function<void()> function);
  /// Gives memory back when the stream has come there, as a caching allocator does.
  void free_on(StreamRole stream, tiering::DeviceMemory memory);
  /// Runs `function` now, as something that the host does with these ranges of its own memory, and
  /// with `lock_bytes`. Tells the clock.
  void host_access(const std::string& name, const Ranges& reads, const Ranges& writes,
                   const std::function<void()>& function);
  /// Holds up the host until the stream has done all that is on it, and does not tell the clock:
  /// the values are then right, and missing events are reported all the same. Throws as
  /// Event::synchronize does.
  void settle(StreamRole stream, std::chrono::nanoseconds timeout);

  /// The bytes of live or dead device memory, for functions that run on streams.
  [[nodiscard]] std::span<std::byte> touchable(DeviceSpan range) const noexcept {
    return shadow_.touchable(range);
  }
  /// Whether it gave memory at this address, ever.
  [[nodiscard]] bool owns(std::uintptr_t address) const noexcept {
    return shadow_.contains(address);
  }
  /// Held by copies and fills while they move bytes. An operation that races on purpose takes it
  /// too: then the race is one of order alone, and ThreadSanitizer finds those that nobody planned.
  [[nodiscard]] std::unique_lock<std::mutex> lock_bytes() { return std::unique_lock(bytes_mutex_); }

  // ---- what was found ----
  [[nodiscard]] std::vector<Race> races() const;
  /// The waits that made an order which was not there before, by a stream or by the host (by
  /// synchronize, or by asking is_done and hearing yes). One that is suppressed is made, and the
  /// clock is not told: it reports what that wait was for, while values and memory stay right.
  [[nodiscard]] std::vector<std::string> waits() const;
  [[nodiscard]] std::size_t operations() const;

 private:
  class Mark;  // the state of an event

  void take_back(DeviceSpan memory) noexcept override;
  void take_back(std::span<std::byte> registered) noexcept override;

  // With mutex_ held.
  void throw_if_failed() const;
  void check(std::string_view operation, const Ranges& ranges) const;
  void put(StreamRole stream, std::string_view name, const Ranges& reads, const Ranges& writes,
           std::function<void()>&& function);
  [[nodiscard]] std::shared_ptr<Mark> put_mark(StreamRole stream);
  void let_see(Timeline who, const std::string& name, const Mark& mark);

  // On the thread of a stream.
  void perform(std::size_t number, std::chrono::microseconds delay, const std::string& name,
               const std::function<void()>& function);
  void fail(const std::string& reason);

  void await(const Mark& mark, std::unique_lock<std::mutex>& lock,
             std::chrono::nanoseconds timeout);

  const SimDeviceOptions options_;
  const tiering::DeviceProperties properties_;
  ShadowMemory shadow_;
  std::mutex bytes_mutex_;

  mutable std::mutex mutex_;         // of all below but the streams, and of every Mark
  std::condition_variable changed_;  // a mark was reached, the device failed or goes away
  tiering::LiveMemory live_;
  RaceClock clock_;
  std::mt19937_64 random_;
  std::uint64_t used_ = 0;  // bytes
  std::size_t allocations_ = 0;
  std::size_t operations_ = 0;
  std::vector<std::string> waits_;
  std::map<std::uintptr_t, StreamRole> freed_by_stream_;  // between free_on and take_back
  std::string failure_;                                   // empty: none
  bool stopping_ = false;

  std::array<SimStream, tiering::kStreamRoles> streams_;  // last: their threads use the others
};

}  // namespace strata::support
