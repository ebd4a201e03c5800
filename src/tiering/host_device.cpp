#include "strata/tiering/host_device.h"

#include <cstring>
#include <memory>
#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "tiering/live_memory.h"

namespace strata::tiering {
namespace {

std::byte* pointer_to(DeviceSpan range) { return reinterpret_cast<std::byte*>(range.address()); }

}  // namespace

static_assert(RegionMap::kAlignment % Device::kAlignment == 0);

HostDevice::HostDevice(HostArena& arena)
    : properties_{.name = "host memory",
                  .total_bytes = arena.capacity(),
                  .memory_is_host = true,
                  .copies_are_asynchronous = false},
      arena_(arena),
      live_(std::make_unique<LiveMemory>(properties_.name)) {}

HostDevice::~HostDevice() = default;

DeviceMemory HostDevice::allocate(std::uint64_t bytes, std::string_view what) {
  if (bytes == 0) throw UsageError("device memory for " + std::string(what) + ": no bytes asked");
  const std::lock_guard lock(mutex_);
  auto region = regions_.try_take(bytes);
  if (!region) {
    regions_.add(take_more(bytes, what));
    region = regions_.try_take(bytes);
  }
  const DeviceSpan memory(region->offset, bytes);
  live_->add(memory, what);
  return give(memory);
}

Region HostDevice::take_more(std::uint64_t bytes, std::string_view what) {
  try {
    const std::span<std::byte> more = arena_.take(round_up(bytes, kAlignment), what);
    return {reinterpret_cast<std::uintptr_t>(more.data()), more.size()};
  } catch (const BudgetError& error) {
    throw BudgetError("device " + properties_.name + ": no room for " + std::string(what) + ": " +
                      std::to_string(bytes) + " bytes asked; " + error.what());
  }
}

std::optional<std::span<std::byte>> HostDevice::host_view(DeviceSpan range) {
  const std::lock_guard lock(mutex_);
  live_->check("host_view", range);
  return std::span<std::byte>(pointer_to(range), range.bytes());
}

HostRegistration HostDevice::register_host(std::span<std::byte> memory, std::string_view what) {
  if (memory.empty()) {
    throw UsageError("registration of " + std::string(what) + ": it has no bytes");
  }
  return give(memory);
}

void HostDevice::copy_to_device(StreamRole, std::span<const std::byte> from, DeviceSpan to) {
  {
    const std::lock_guard lock(mutex_);
    live_->check_copy("copy_to_device", from, to);
  }
  if (!from.empty()) std::memcpy(pointer_to(to), from.data(), from.size());
}

void HostDevice::copy_to_host(StreamRole, DeviceSpan from, std::span<std::byte> to) {
  {
    const std::lock_guard lock(mutex_);
    live_->check_copy("copy_to_host", from, to);
  }
  if (!to.empty()) std::memcpy(to.data(), pointer_to(from), to.size());
}

void HostDevice::copy_within(StreamRole, DeviceSpan from, DeviceSpan to) {
  {
    const std::lock_guard lock(mutex_);
    live_->check_copy("copy_within", from, to);
  }
  if (!from.empty()) std::memcpy(pointer_to(to), pointer_to(from), from.bytes());
}

void HostDevice::fill(StreamRole, DeviceSpan range, std::byte value) {
  {
    const std::lock_guard lock(mutex_);
    live_->check("fill", range);
  }
  if (!range.empty()) std::memset(pointer_to(range), std::to_integer<int>(value), range.bytes());
}

Event HostDevice::record(StreamRole) { return {}; }

void HostDevice::wait(StreamRole, const Event& event) {
  if (event.state() != nullptr) {
    throw UsageError("wait on " + properties_.name + " for an event of another device");
  }
}

void HostDevice::take_back(DeviceSpan memory) noexcept {
  const std::lock_guard lock(mutex_);
  live_->remove(memory);
  // Regions are rounded up to whole pages; a DeviceMemory is as long as it was asked for.
  regions_.give_back({memory.address(), round_up(memory.bytes(), RegionMap::kAlignment)});
}

void HostDevice::take_back(std::span<std::byte>) noexcept {}

}  // namespace strata::tiering
