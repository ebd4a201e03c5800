#include "simulated_accelerator/device_guard.h"

#include "simulated_accelerator/device_allocator.h"
#include "strata/base/error.h"

namespace strata::simulated {

using tiering::Event;

namespace {

Event point_of(const c10::Stream& stream) {
  return live_device(stream.device_index()).record(role_of(stream));
}

}  // namespace

bool DeviceGuard::queryStream(const c10::Stream& stream) const {
  // The thread of an idle stream needs a moment to say that it is idle, more on a busy machine.
  constexpr std::chrono::milliseconds kMoment{300};
  try {
    point_of(stream).synchronize(kMoment);
    return true;
  } catch (const DeadlineExceeded&) {
    return false;
  }
}

void DeviceGuard::synchronizeStream(const c10::Stream& stream) const {
  point_of(stream).synchronize(kDeadline);
}

void DeviceGuard::synchronizeDevice(c10::DeviceIndex index) const {
  for (std::size_t role = 0; role < tiering::kStreamRoles; ++role) {
    live_device(index).record(static_cast<StreamRole>(role)).synchronize(kDeadline);
  }
}

// LibTorch's event is a place that holds the latest point recorded: what waits for an earlier one
// has a copy of it.
void DeviceGuard::record(void** event, const c10::Stream& stream, c10::DeviceIndex,
                         c10::EventFlag) const {
  Event point = point_of(stream);
  if (*event == nullptr) *event = new Event;
  *static_cast<Event*>(*event) = std::move(point);
}

void DeviceGuard::block(void* event, const c10::Stream& stream) const {
  if (event != nullptr)
    live_device(stream.device_index()).wait(role_of(stream), *static_cast<Event*>(event));
}

bool DeviceGuard::queryEvent(void* event) const {
  return event == nullptr || static_cast<Event*>(event)->is_done();
}

void DeviceGuard::synchronizeEvent(void* event) const {
  if (event != nullptr) static_cast<Event*>(event)->synchronize(kDeadline);
}

void DeviceGuard::destroyEvent(void* event, c10::DeviceIndex) const noexcept {
  delete static_cast<Event*>(event);
}

void DeviceGuard::recordDataPtrOnStream(const c10::DataPtr& memory,
                                        const c10::Stream& stream) const {
  device_allocator().used_on(memory, role_of(stream));
}

}  // namespace strata::simulated
