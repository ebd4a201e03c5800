#include "simulated_accelerator/live_device.h"

#include <atomic>
#include <utility>

#include "strata/base/error.h"

namespace strata::simulated {
namespace {

std::atomic<support::SimDevice*> live{nullptr};
thread_local StreamRole role_of_thread = StreamRole::kCompute;

}  // namespace

support::SimDevice& live_device() {
  support::SimDevice* const device = live.load();
  if (device == nullptr) {
    throw UsageError(
        "an operator ran on the simulated accelerator when there was none; keep a "
        "SimulatedAccelerator for as long as its tensors are used");
  }
  return *device;
}

void set_live_device(support::SimDevice* device) noexcept { live = device; }

c10::Stream stream_of(StreamRole role) noexcept {
  return c10::Stream(c10::Stream::UNSAFE, kTorchDevice, static_cast<c10::StreamId>(role));
}

StreamRole role_of(const c10::Stream& stream) noexcept {
  return static_cast<StreamRole>(stream.id());
}

StreamRole current_role() noexcept { return role_of_thread; }

StreamRole exchange_role(StreamRole role) noexcept { return std::exchange(role_of_thread, role); }

}  // namespace strata::simulated
