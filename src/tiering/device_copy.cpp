#include "strata/tiering/device_copy.h"

#include <utility>

#include "strata/base/error.h"

namespace strata::tiering {

DeviceCopy::DeviceCopy(Device& device, StreamRole stream, std::span<const std::byte> buffer)
    : device_(&device), buffer_(buffer), stream_(stream), event_(device.record(stream)) {}

DeviceCopy::DeviceCopy(DeviceCopy&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      buffer_(other.buffer_),
      stream_(other.stream_),
      event_(std::move(other.event_)),
      seen_(other.seen_) {}

DeviceCopy& DeviceCopy::operator=(DeviceCopy&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(buffer_, other.buffer_);
  std::swap(stream_, other.stream_);
  std::swap(event_, other.event_);
  std::swap(seen_, other.seen_);
  DeviceCopy(std::move(other));  // waits for the old copy now
  return *this;
}

DeviceCopy::~DeviceCopy() {
  if (device_ == nullptr) return;
  try {
    wait();
  } catch (const Error&) {
    // Dropping a copy drops its outcome; the device keeps its failure for the next call.
  }
}

bool DeviceCopy::done() {
  if (device_ != nullptr && !seen_) seen_ = event_.is_done();
  return device_ == nullptr || seen_;
}

Event DeviceCopy::into_event() && noexcept {
  device_ = nullptr;
  return std::move(event_);
}

void DeviceCopy::wait() {
  if (device_ == nullptr) throw UsageError("a copy was waited for twice");
  Device& device = *std::exchange(device_, nullptr);
  if (!seen_) event_.synchronize(kDevicePatience);
  if (stream_ == StreamRole::kDrain) {
    device.note_host_read(buffer_);
  } else {
    device.note_host_write(buffer_);
  }
}

}  // namespace strata::tiering
