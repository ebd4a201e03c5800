#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "strata/tiering/device_span.h"

/// \file
/// The device: where a unit's weights are while they are in use. Host memory, a GPU and the
/// simulated accelerator of the tests are behind the same contract.
///
/// Work is put on streams and done later. The operations of one stream are done in the order in
/// which they were put there; only events order operations of different streams, and the host,
/// whatever a device happens to do. A unit's way through a device is this:
///
///     device.wait(StreamRole::kUpload, region_free);  // its last computation is over
///     device.copy_to_device(StreamRole::kUpload, slot, region);
///     Event uploaded = device.record(StreamRole::kUpload);  // the slot may be filled again
///     device.wait(StreamRole::kCompute, uploaded);
///     ...                                                   // reads the region, fills the bucket
///     region_free = device.record(StreamRole::kCompute);
///     device.wait(StreamRole::kDrain, region_free);
///     device.copy_to_host(StreamRole::kDrain, bucket, other_slot);
///     Event drained = device.record(StreamRole::kDrain);    // the host may read the other slot

namespace strata::tiering {

class Device;

/// The role of a stream. A device has one stream for each role.
enum class StreamRole : std::uint8_t { kCompute, kUpload, kDrain, kCollectives };

inline constexpr std::size_t kStreamRoles = 4;

[[nodiscard]] constexpr std::string_view name_of(StreamRole stream) {
  constexpr std::string_view kNames[kStreamRoles] = {"compute", "upload", "drain", "collectives"};
  return kNames[static_cast<std::size_t>(stream)];
}

struct DeviceProperties {
  std::string name;                      ///< for messages: "host memory", "NVIDIA H200 (0)"
  std::uint64_t total_bytes = 0;         ///< its memory, free or not
  bool memory_is_host = false;           ///< `host_view` gives a span: fetch may go straight there
  bool copies_are_asynchronous = false;  ///< false: an operation is done when its call returns
};

/// Memory of a device; gives it back on destruction. Move-only. The device must outlive it.
///
/// All uses of it must be over by then: an event recorded after the last operation on it is done,
/// and the host has seen that.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;
  ~DeviceMemory();
  [[nodiscard]] DeviceSpan span() const noexcept { return span_; }

 private:
  friend class Device;
  DeviceMemory(Device* device, DeviceSpan span) : device_(device), span_(span) {}
  Device* device_ = nullptr;
  DeviceSpan span_;
};

/// Host memory that a device has been told of, so that copies run at full speed; the device forgets
/// it on destruction. Move-only. The device and the memory must outlive it, and all copies of that
/// memory must be over by then, in the sense in which the uses of DeviceMemory must be.
class HostRegistration {
 public:
  HostRegistration() = default;
  HostRegistration(HostRegistration&& other) noexcept;
  HostRegistration& operator=(HostRegistration&& other) noexcept;
  ~HostRegistration();

  /// False: the device refused, see `refusal`. Copies work all the same, more slowly.
  [[nodiscard]] bool is_registered() const noexcept { return device_ != nullptr; }
  [[nodiscard]] const std::string& refusal() const noexcept { return refusal_; }

 private:
  friend class Device;
  HostRegistration(Device* device, std::span<std::byte> memory)
      : device_(device), memory_(memory) {}
  explicit HostRegistration(std::string refusal) : refusal_(std::move(refusal)) {}
  Device* device_ = nullptr;
  std::span<std::byte> memory_;
  std::string refusal_;
};

/// A point in the work of a stream, as `Device::record` marks it. A value: copies mean the same
/// point, which never moves. The default is a point that lies behind everything: done. An event may
/// be destroyed before it is done, and after its device; to ask it, the device must live.
class Event {
 public:
  /// A device's knowledge of a point. Its member functions have the contracts of Event's.
  class State {
   public:
    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    virtual ~State() = default;
    virtual bool is_done() = 0;
    virtual void synchronize(std::chrono::nanoseconds timeout) = 0;
  };

  Event() = default;
  explicit Event(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

  /// Whether all that was on the stream when the event was recorded has been done. Never blocks.
  /// True orders the host behind that work, as `synchronize` does. Throws DeviceError.
  [[nodiscard]] bool is_done() const { return state_ == nullptr || state_->is_done(); }

  /// Holds up the host until the event is done. Throws DeadlineExceeded after `timeout`: the memory
  /// of the operations before the event is still lent to the device then. Throws DeviceError.
  void synchronize(std::chrono::nanoseconds timeout) const {
    if (state_ != nullptr) state_->synchronize(timeout);
  }

  /// The state that a device recorded, for its own use; null: done.
  [[nodiscard]] const std::shared_ptr<State>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<State> state_;
};

/// Time that the engine waits for a device that does not come back. Work on a device takes a second
/// at most.
inline constexpr std::chrono::seconds kDevicePatience{90};

/// Memory, streams and events of one device.
///
/// Copies, fills, `record` and `wait` are put on the stream that they name and return without
/// waiting for it. An operation borrows the memory that it names, on the device and on the host,
/// until an event recorded after it on its stream is done: the host may use that memory again once
/// it has seen the event done, another stream once it has waited for it. An operation with no bytes
/// does nothing.
///
/// Errors of every member function: UsageError for a range that is not inside of one live
/// DeviceMemory of this device (nothing is put on the stream); DeviceError when the device has
/// failed, earlier or now: it stays failed, nothing more is done on it, and what its memory holds
/// is lost. DeviceMemory and HostRegistration may still be destroyed.
///
/// Threads: any may call. Threads whose operations touch the same memory settle the order of their
/// calls between themselves.
class Device {
 public:
  static constexpr std::uint64_t kAlignment = 4096;

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  /// Gives up work that is not done yet. No DeviceMemory or HostRegistration may be left.
  virtual ~Device() = default;

  [[nodiscard]] virtual const DeviceProperties& properties() const noexcept = 0;

  /// Takes memory for `what`, aligned to kAlignment; what it holds is undefined. May wait for all
  /// streams: not for the middle of a step. Throws BudgetError when the device has no room for it
  /// (device, what, bytes asked and free), UsageError for no bytes.
  [[nodiscard]] virtual DeviceMemory allocate(std::uint64_t bytes, std::string_view what) = 0;

  /// The bytes of `range` for host code, where the device's memory is host memory; else nullopt.
  /// Operations on the range and host code are ordered by events here too.
  [[nodiscard]] virtual std::optional<std::span<std::byte>> host_view(DeviceSpan range) = 0;

  /// Tells the device of host memory that many copies will use. Limits of the operating system may
  /// make it refuse, which is no error. `what` names the memory in messages. Throws UsageError for
  /// no bytes.
  [[nodiscard]] virtual HostRegistration register_host(std::span<std::byte> memory,
                                                       std::string_view what) = 0;

  /// Copies from the host to the device (hop 2), from the device to the host (hop 6) and on the
  /// device. Throws UsageError when `from` and `to` differ in length or overlap. Memory that is not
  /// registered may hold up the caller until it has been copied.
  virtual void copy_to_device(StreamRole stream, std::span<const std::byte> from,
                              DeviceSpan to) = 0;
  virtual void copy_to_host(StreamRole stream, DeviceSpan from, std::span<std::byte> to) = 0;
  virtual void copy_within(StreamRole stream, DeviceSpan from, DeviceSpan to) = 0;
  /// Sets every byte of `range` to `value`.
  virtual void fill(StreamRole stream, DeviceSpan range, std::byte value) = 0;

  /// Says that host code now reads, or may now write, host memory that this device copies from or
  /// to. Only a device that checks the order of accesses, in a test, looks at it; others have no
  /// use for it.
  virtual void note_host_read(std::span<const std::byte> /*memory*/) {}
  virtual void note_host_write(std::span<const std::byte> /*memory*/) {}

  /// An event that is done when all that is on the stream now has been done.
  [[nodiscard]] virtual Event record(StreamRole stream) = 0;
  /// Makes all that is put on `stream` from now on wait for `event`. Does not hold up the host.
  /// Throws UsageError for an event of another device.
  virtual void wait(StreamRole stream, const Event& event) = 0;

 protected:
  Device() = default;
  /// Make the owners that implementations return, and the answer where they refuse.
  [[nodiscard]] DeviceMemory give(DeviceSpan memory) { return {this, memory}; }
  [[nodiscard]] HostRegistration give(std::span<std::byte> memory) { return {this, memory}; }
  [[nodiscard]] static HostRegistration refuse(std::string reason) {
    return HostRegistration(std::move(reason));
  }

 private:
  friend class DeviceMemory;
  friend class HostRegistration;
  /// Takes back what `give` gave, each once.
  virtual void take_back(DeviceSpan memory) noexcept = 0;
  virtual void take_back(std::span<std::byte> registered) noexcept = 0;
};

}  // namespace strata::tiering
