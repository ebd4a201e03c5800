#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <sstream>
#include <vector>

#include "strata/aio/io_channel.h"
#include "strata/base/units.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/movement.h"
#include "strata/tiering/shard_store.h"
#include "support/simulated_disk.h"
#include "support/temp_directory.h"

namespace strata::tiering {

inline std::vector<std::byte> random_bytes(std::uint64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(round_up(count, sizeof(std::uint64_t)));
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(&bytes[i], &word, sizeof word);
  }
  bytes.resize(count);
  return bytes;
}

/// A store on a simulated disk in `directories` directories, and a buffer for its transfers. One
/// thread, and a clock that only waiting for the disk moves.
class StoreTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kChunk = 64_KiB;

  explicit StoreTest(std::size_t directories = 1, std::uint32_t operations_max = 64,
                     std::uint64_t nvme_bytes = Budget::kUnlimited)
      : nvme_(Tier::kNvme, nvme_bytes),
        queue_(aio::IoQueueOptions{.operations_max = operations_max, .clock = &clock_},
               aio::make_backend(disk_), log_),
        store_({.directories = subdirectories(directories), .chunk_bytes = kChunk}, queue_, nvme_,
               counters_) {}

  std::vector<std::filesystem::path> subdirectories(std::size_t count) {
    std::vector<std::filesystem::path> paths;
    for (std::size_t i = 0; i < count; ++i) {
      paths.push_back(directory_.path() / ("disk" + std::to_string(i)));
      std::filesystem::create_directory(paths.back());
    }
    return paths;
  }

  std::span<std::byte> take_buffer(std::uint64_t bytes) {
    return arena_.take(store_.buffer_bytes(bytes), "a test's buffer");
  }

  /// Writes `bytes` to the extent from `offset` on and waits.
  void write(Extent extent, std::span<const std::byte> bytes, std::uint64_t offset = 0) {
    std::ranges::copy(bytes, buffer_.begin());
    auto transfer = flush(store_, extent, {offset, bytes.size()}, buffer_);
    ASSERT_TRUE(transfer);
    transfer->wait();
  }

  /// Reads a range into memory that was full of other bytes.
  std::vector<std::byte> read(Extent extent, ByteRange range) {
    std::ranges::fill(buffer_, std::byte{0xee});
    auto transfer = fetch(store_, extent, range, buffer_);
    EXPECT_TRUE(transfer);
    transfer->wait();
    return {buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(range.bytes)};
  }
  std::vector<std::byte> read(Extent extent) { return read(extent, {0, extent.bytes}); }

  support::TempDirectory directory_;
  std::ostringstream log_text_;
  Logger log_{log_text_};
  ManualClock clock_;
  Counters counters_{clock_};
  Budget host_{Tier::kHost};
  Budget nvme_;
  /// Done as soon as it is asked, as long as nothing is injected.
  std::shared_ptr<aio::SimulatedDisk> disk_ = std::make_shared<aio::SimulatedDisk>(
      aio::DiskOptions{.latency_min = std::chrono::nanoseconds(0),
                       .latency_max = std::chrono::nanoseconds(0),
                       .read_bytes_per_second = 1e18,
                       .write_bytes_per_second = 1e18},
      &clock_);
  HostArena arena_{host_, 64_MiB, log_};
  std::span<std::byte> buffer_ = arena_.take(4_MiB, "a test's buffer");
  aio::IoChannel queue_;
  ShardStore store_;
};

}  // namespace strata::tiering
