#include "strata/tiering/device.h"

#include <string>

#include "strata/base/error.h"

namespace strata::tiering {

DeviceSpan DeviceSpan::subspan(std::uint64_t offset, std::uint64_t count) const {
  if (offset > bytes_ || count > bytes_ - offset) {
    throw UsageError("device memory: " + std::to_string(count) + " bytes from byte " +
                     std::to_string(offset) + " on reach beyond the end of a span of " +
                     std::to_string(bytes_));
  }
  return {address_ + offset, count};
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)), span_(std::exchange(other.span_, {})) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(span_, other.span_);
  DeviceMemory(std::move(other));  // the old memory goes back now
  return *this;
}

DeviceMemory::~DeviceMemory() {
  if (device_ != nullptr) device_->take_back(span_);
}

HostRegistration::HostRegistration(HostRegistration&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      memory_(std::exchange(other.memory_, {})),
      refusal_(std::move(other.refusal_)) {}

HostRegistration& HostRegistration::operator=(HostRegistration&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(memory_, other.memory_);
  std::swap(refusal_, other.refusal_);
  HostRegistration(std::move(other));  // the old registration goes back now
  return *this;
}

HostRegistration::~HostRegistration() {
  if (device_ != nullptr) device_->take_back(memory_);
}

}  // namespace strata::tiering
