#include "strata/tiering/tiers.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <utility>

#include "strata/aio/backend.h"
#include "strata/aio/disk.h"
#include "strata/aio/path_trial.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {
namespace {

constexpr std::uint64_t kAddressSpace = std::uint64_t{1} << 42;  // not memory

void make_directory(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directory(directory, error);
  if (error) {
    throw system_error("create the nvme directory", directory.string(), error.value(),
                       "name an existing directory, or one whose parent exists and is writable");
  }
}

/// The NUMA node next to the disks of all directories, -1 where they have none in common.
int node_next_to(std::span<const std::filesystem::path> directories) {
  std::vector<aio::DiskDescription> disks;
  for (const auto& directory : directories) {
    make_directory(directory);
    disks.push_back(aio::describe_disk(directory));
  }
  return aio::numa_node_of(disks);
}

}  // namespace

Tiers::Tiers(Options options, Counters& counters, Logger& log)
    : counters_(counters),
      log_(log),
      device_budget_(Tier::kDevice, options.device_bytes),
      host_budget_(Tier::kHost, options.host_bytes),
      nvme_budget_(Tier::kNvme, options.nvme_bytes),
      numa_node_(node_next_to(options.directories)),
      host_arena_(host_budget_, std::min(options.host_bytes, kAddressSpace), log, numa_node_),
      device_(options.device) {
  if (device_ == nullptr) {
    device_arena_ = std::make_unique<HostArena>(
        device_budget_, std::min(options.device_bytes, kAddressSpace), log, numa_node_);
    host_device_ = std::make_unique<HostDevice>(*device_arena_);
    device_ = host_device_.get();
  }
  if (options.directories.empty()) return;
  options.io.numa_node = numa_node_;
  queue_ = std::make_unique<aio::IoQueue>(options.io, options.directories.front(), log);
  host_arena_.heed(queue_->lost_memory());
  if (device_arena_) device_arena_->heed(queue_->lost_memory());
  const auto bandwidths = aio::try_paths(*queue_, options.directories, log);
  store_ = std::make_unique<ShardStore>(ShardStore::Options{.directories = options.directories,
                                                            .chunk_bytes = options.chunk_bytes,
                                                            .bandwidths = bandwidths,
                                                            .log = &log},
                                        *queue_, nvme_budget_, counters);
}

Tiers::~Tiers() {
  using enum StreamRole;
  try {
    for (const StreamRole stream : {kCompute, kUpload, kDrain, kCollectives}) {
      device_->record(stream).synchronize(kDevicePatience);
    }
  } catch (const Error& error) {
    log_.warning(std::string("the device had not done all of its work at the end: ") +
                 error.what());
  }
}

Budget& Tiers::budget(Tier tier) noexcept {
  return tier == Tier::kDevice ? device_budget_ : tier == Tier::kHost ? host_budget_ : nvme_budget_;
}

HomePlaces Tiers::places() noexcept {
  const bool memory_is_host = device_->properties().memory_is_host;
  return {
      .store = store_.get(), .device = memory_is_host ? nullptr : device_, .counters = &counters_};
}

StateHome Tiers::take_home(Tier tier, std::uint64_t bytes, std::string_view what) {
  if (bytes == 0) return {};
  switch (tier) {
    case Tier::kNvme: return {.extent = store_->allocate(bytes, what)};
    case Tier::kHost: return {.memory = host_arena_.take(bytes, what)};
    case Tier::kDevice: break;
  }
  const DeviceSpan memory = take_on_device(bytes, what);
  device_->fill(StreamRole::kUpload, memory, std::byte{0});
  zeroed_ = device_->record(StreamRole::kUpload);
  return {.memory = device_->host_view(memory).value_or(std::span<std::byte>()), .device = memory};
}

void Tiers::finish_homes() { device_->wait(StreamRole::kDrain, std::exchange(zeroed_, {})); }

DeviceSpan Tiers::take_on_device(std::uint64_t bytes, std::string_view what) {
  if (!host_device_) {
    const std::uint64_t charged = round_up(bytes, Device::kAlignment);
    reservations_.push_back(device_budget_.reserve(charged, what));
  }
  device_memory_.push_back(device_->allocate(bytes, what));
  return device_memory_.back().span();
}

void Tiers::register_memory(std::span<std::byte> memory, std::string_view what, bool by_disk) {
  if (memory.empty()) return;
  if (!device_refuses_) {
    HostRegistration registration = device_->register_host(memory, what);
    device_refuses_ = !registration.is_registered();
    if (device_refuses_) {
      log_.info("host memory is not registered with the device: " + registration.refusal());
    } else {
      registrations_.push_back(std::move(registration));
    }
  }
  if (!by_disk || !queue_ || disk_refuses_) return;
  aio::IoRegistration registration = queue_->register_memory(memory);
  disk_refuses_ = !registration.refusal().empty();
  if (!disk_refuses_) {
    disk_registrations_.push_back(std::move(registration));
  } else if (registration.refusal() != aio::Backend::kNothingToRegister) {
    log_.info("I/O buffers are not registered: " + registration.refusal());
  }
}

}  // namespace strata::tiering
