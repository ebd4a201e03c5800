#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "strata/aio/io_queue.h"
#include "strata/base/counters.h"
#include "strata/base/log.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/home_transfer.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/host_device.h"
#include "strata/tiering/shard_store.h"
#include "strata/tiering/state_home.h"

namespace strata::tiering {

/// The three tiers of one rank and what moves bytes between them: budgets, arenas, the device, the
/// I/O queue and the shard store. Memory taken from the tiers stays taken until they are destroyed.
/// Thread: the engine's.
class Tiers {
 public:
  struct Options {
    std::uint64_t device_bytes = Budget::kUnlimited;  ///< budget of each tier
    std::uint64_t host_bytes = Budget::kUnlimited;
    std::uint64_t nvme_bytes = Budget::kUnlimited;
    std::vector<std::filesystem::path> directories{};  ///< the shard store's; none: no nvme tier
    std::uint64_t chunk_bytes = 1u << 20;              ///< chunk of the shard store
    aio::IoQueueOptions io{};  ///< its NUMA node is the one next to the disks
    Device* device = nullptr;  ///< outlives the tiers; null: host memory with a budget of its own
  };

  /// Makes the last folder of a missing directory, but not its parents: the mount point of a disk
  /// that is not mounted must not become a folder of the system disk. Throws what IoQueue,
  /// ShardStore, HostArena and aio::try_paths throw.
  Tiers(Options options, Counters& counters, Logger& log);
  /// Waits until the device has done all its work, at most a minute and a half for each stream.
  ~Tiers();
  Tiers(const Tiers&) = delete;
  Tiers& operator=(const Tiers&) = delete;

  [[nodiscard]] Budget& budget(Tier tier) noexcept;
  [[nodiscard]] HostArena& host_arena() noexcept { return host_arena_; }
  [[nodiscard]] Device& device() noexcept { return *device_; }
  [[nodiscard]] bool has_nvme() const noexcept { return store_ != nullptr; }
  /// Null without an nvme tier.
  [[nodiscard]] ShardStore* store() noexcept { return store_.get(); }
  [[nodiscard]] const aio::IoQueue* queue() const noexcept { return queue_.get(); }
  /// The places of states that rest where host code cannot touch them.
  [[nodiscard]] HomePlaces places() noexcept;

  /// Takes `bytes` of a tier for a state, zeros at first; nothing for no bytes. Throws BudgetError,
  /// IoError, DeviceError.
  [[nodiscard]] StateHome take_home(Tier tier, std::uint64_t bytes, std::string_view what);
  /// Call when all homes are taken, before the zeros of one are read.
  void finish_homes();
  /// Takes memory of the device. Throws BudgetError, DeviceError.
  [[nodiscard]] DeviceSpan take_on_device(std::uint64_t bytes, std::string_view what);

  /// Tells the device, and with `by_disk` the I/O engine, of memory that many transfers pass
  /// through. A refusal is logged.
  void register_memory(std::span<std::byte> memory, std::string_view what, bool by_disk);

 private:
  Counters& counters_;
  Logger& log_;
  Budget device_budget_, host_budget_, nvme_budget_;
  const int numa_node_;  // the node next to the disks
  HostArena host_arena_;
  std::unique_ptr<HostArena> device_arena_;  // memory of host_device_
  std::unique_ptr<HostDevice> host_device_;  // null where a device was given
  Device* device_;
  std::vector<Reservation> reservations_;  // from the device budget, where the arena makes none
  std::vector<DeviceMemory> device_memory_;
  Event zeroed_;  // done when the homes taken so far are zeroed
  std::vector<HostRegistration> registrations_;
  std::unique_ptr<aio::IoQueue> queue_;
  std::unique_ptr<ShardStore> store_;
  std::vector<aio::IoRegistration> disk_registrations_;
  bool device_refuses_ = false, disk_refuses_ = false;  // refused to be told of memory
};

}  // namespace strata::tiering
