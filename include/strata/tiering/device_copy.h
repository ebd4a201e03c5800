#pragma once

#include <cstddef>
#include <span>

#include "strata/base/counters.h"
#include "strata/tiering/device.h"

namespace strata::tiering {

/// A copy of the device under way between its memory and a buffer of the host, which is lent until
/// it is done. Move-only; destroying one that is not done waits for it and drops its error.
class DeviceCopy {
 public:
  DeviceCopy(DeviceCopy&& other) noexcept;
  DeviceCopy& operator=(DeviceCopy&& other) noexcept;
  ~DeviceCopy();

  /// True once `wait` would not block. Never blocks. Throws DeviceError.
  [[nodiscard]] bool done();
  /// Waits for the bytes. Call once. Throws DeviceError, and DeadlineExceeded after a minute and a
  /// half; the buffer stays the device's then.
  void wait();
  /// The event to wait for on streams that use the device's end.
  [[nodiscard]] const Event& event() const noexcept { return event_; }
  /// Leaves the waiting to the event's holder: the buffer is lent until the event is done.
  [[nodiscard]] Event into_event() && noexcept;

 private:
  friend DeviceCopy upload(Device&, std::span<const std::byte>, DeviceSpan, Counters&);
  friend DeviceCopy drain(Device&, DeviceSpan, std::span<std::byte>, Counters&);
  /// Takes for its own the copy that was put on `stream` last.
  DeviceCopy(Device& device, StreamRole stream, std::span<const std::byte> buffer);

  Device* device_;  // null once it has been waited for or moved from
  std::span<const std::byte> buffer_;
  StreamRole stream_;
  Event event_;
  bool seen_ = false;  // the host knows that it is done
};

}  // namespace strata::tiering
