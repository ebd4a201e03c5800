#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>

#include "strata/tiering/device.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/region_map.h"

namespace strata::tiering {

class LiveMemory;

/// The device of a machine without a GPU: host memory, and copies that are done when they return.
/// Every event is done from the start; registration asks nothing of anyone and is never refused.
/// The calling thread makes its copies; those of different threads run at the same time.
class HostDevice final : public Device {
 public:
  /// Takes memory from `arena`, whose budget is the device tier's and which must outlive it. Memory
  /// that comes back is given out again, and stays charged to the budget.
  explicit HostDevice(HostArena& arena);
  ~HostDevice() override;

  [[nodiscard]] const DeviceProperties& properties() const noexcept override { return properties_; }
  [[nodiscard]] DeviceMemory allocate(std::uint64_t bytes, std::string_view what) override;
  [[nodiscard]] std::optional<std::span<std::byte>> host_view(DeviceSpan range) override;
  [[nodiscard]] HostRegistration register_host(std::span<std::byte> memory,
                                               std::string_view what) override;

  void copy_to_device(StreamRole stream, std::span<const std::byte> from, DeviceSpan to) override;
  void copy_to_host(StreamRole stream, DeviceSpan from, std::span<std::byte> to) override;
  void copy_within(StreamRole stream, DeviceSpan from, DeviceSpan to) override;
  void fill(StreamRole stream, DeviceSpan range, std::byte value) override;

  [[nodiscard]] Event record(StreamRole stream) override;
  void wait(StreamRole stream, const Event& event) override;

 private:
  /// Takes a region from the arena. Throws BudgetError.
  [[nodiscard]] Region take_more(std::uint64_t bytes, std::string_view what);
  void take_back(DeviceSpan memory) noexcept override;
  void take_back(std::span<std::byte> registered) noexcept override;

  const DeviceProperties properties_;
  HostArena& arena_;
  std::mutex mutex_;   // guards the two below, and the arena
  RegionMap regions_;  // memory taken from the arena; offsets are addresses
  std::unique_ptr<LiveMemory> live_;
};

}  // namespace strata::tiering
