#include "zero3/device_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/log.h"
#include "strata/base/units.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/host_device.h"
#include "support/sim_device.h"
#include "zero3/thread_world.h"

/// \file
/// Ranks exchange what is on their devices with the same result whether that is host memory or goes
/// through it, and on a device every access is ordered by an event.

namespace strata::zero3::device_exchange_test {
namespace {

using support::SimDevice;
using support::SimDeviceOptions;
using testing::IsEmpty;
using testing::Not;
using tiering::DeviceMemory;
using tiering::DeviceSpan;
using tiering::StreamRole;

constexpr std::chrono::seconds kDeadline{60};
constexpr std::uint64_t kPieceBytes = 4096;
constexpr std::uint64_t kShards[] = {10'000, 64, 3 * kPieceBytes};  // bytes; of three vectors
constexpr std::uint64_t kGradients = 700;                           // of each rank's shard
constexpr int kRounds = 3;

std::byte weight(int rank, std::size_t vector, std::uint64_t at, int round) {
  return static_cast<std::byte>((static_cast<std::uint64_t>(rank) * 101 + vector * 37 + at * 7 +
                                 static_cast<std::uint64_t>(round) * 13) %
                                251);
}
float gradient(int rank, std::uint64_t at, int round) {
  return static_cast<float>(rank + 1) / 3.0f +
         static_cast<float>(at + 17u * unsigned(round)) / 7.0f;
}

/// A rank's memory on a device, and what it does there.
class RankOnDevice {
 public:
  RankOnDevice(tiering::Device& device, Ranks& ranks)
      : device_(device), size_(static_cast<std::uint64_t>(ranks.size())), rank_(ranks.rank()) {
    for (const std::uint64_t shard : kShards) {
      vectors_.push_back(device.allocate(size_ * shard, "a vector"));
    }
    bucket_ = device.allocate(size_ * kGradients * sizeof(float), "bucket");
    DeviceExchange::Places places{.device = device, .ranks = ranks};
    if (device.properties().memory_is_host) {
      received_ = device.allocate(bucket_.span().bytes(), "received");
      places.received = received_.span();
    } else {
      staging_.resize(2 * size_ * kPieceBytes);
      places.staging = staging_;
    }
    exchange_ = std::make_unique<DeviceExchange>(places, counters_);
  }
  /// Memory goes back when all is over.
  ~RankOnDevice() {
    exchange_.reset();
    for (const StreamRole role : {StreamRole::kUpload, StreamRole::kCompute, StreamRole::kDrain}) {
      device_.record(role).synchronize(kDeadline);
    }
  }
  RankOnDevice(const RankOnDevice&) = delete;
  RankOnDevice& operator=(const RankOnDevice&) = delete;

  void gather(int round) {
    std::vector<DeviceSpan> spans;
    for (std::size_t i = 0; i < vectors_.size(); ++i) {
      const DeviceSpan vector = vectors_[i].span();
      std::vector<std::byte> shard(kShards[i]);
      for (std::uint64_t at = 0; at < kShards[i]; ++at) shard[at] = weight(rank_, i, at, round);
      device_.copy_to_device(
          StreamRole::kUpload, shard,
          vector.subspan(static_cast<std::uint64_t>(rank_) * kShards[i], kShards[i]));
      device_.record(StreamRole::kUpload).synchronize(kDeadline);
      device_.note_host_write(shard);  // it goes
      spans.push_back(vector);
    }
    exchange_->gather(spans);
    for (std::size_t i = 0; i < vectors_.size(); ++i) {
      const std::vector<std::byte> whole = read(vectors_[i].span());
      for (std::uint64_t at = 0; at < whole.size(); ++at) {
        const int of = static_cast<int>(at / kShards[i]);
        ASSERT_EQ(whole[at], weight(of, i, at % kShards[i], round)) << "vector " << i;
      }
    }
    device_.wait(StreamRole::kUpload, device_.record(StreamRole::kCompute));
  }

  void reduce(int round) {
    std::vector<float> packed(size_ * kGradients);
    for (std::uint64_t at = 0; at < packed.size(); ++at) packed[at] = gradient(rank_, at, round);
    device_.copy_to_device(StreamRole::kCompute, std::as_bytes(std::span(packed)), bucket_.span());
    std::vector<float> home(kGradients);
    exchange_->begin_reduction(bucket_.span())
        .finish({.precision = Precision::kFp32, .bytes = std::as_writable_bytes(std::span(home))},
                threads_);
    for (std::uint64_t i = 0; i < kGradients; ++i) {
      const std::uint64_t at = static_cast<std::uint64_t>(rank_) * kGradients + i;
      float sum = gradient(0, at, round);
      for (int rank = 1; rank < static_cast<int>(size_); ++rank) sum += gradient(rank, at, round);
      ASSERT_EQ(home[i], sum) << "gradient " << i;
    }
  }

  [[nodiscard]] CounterReading counters() const { return counters_.read(); }

 private:
  std::vector<std::byte> read(DeviceSpan memory) {
    std::vector<std::byte> bytes(memory.bytes());
    device_.copy_to_host(StreamRole::kCompute, memory, bytes);
    device_.record(StreamRole::kCompute).synchronize(kDeadline);
    device_.note_host_read(bytes);
    return bytes;
  }

  tiering::Device& device_;
  const std::uint64_t size_;
  const int rank_;
  Counters counters_;
  optim_cpu::ComputeThreads threads_{1};
  std::vector<DeviceMemory> vectors_;
  DeviceMemory bucket_, received_;
  std::vector<std::byte> staging_;
  std::unique_ptr<DeviceExchange> exchange_;
};

void expect_all_well(const std::vector<std::exception_ptr>& thrown) {
  for (const std::exception_ptr& each : thrown) {
    if (each) std::rethrow_exception(each);
  }
}

void gather_and_reduce(tiering::Device& device, Ranks& ranks) {
  RankOnDevice rank(device, ranks);
  for (int round = 0; round < kRounds; ++round) {
    rank.gather(round);
    rank.reduce(round);
  }
}

TEST(DeviceExchange, GathersAndReducesInHostMemory) {
  for (const int size : {2, 3, 4}) {
    expect_all_well(run_ranks({.size = size}, [](Ranks& ranks) {
      Logger log;
      tiering::Budget budget(tiering::Tier::kDevice, 1_MiB);
      tiering::HostArena arena(budget, 1_MiB, log);
      tiering::HostDevice device(arena);
      gather_and_reduce(device, ranks);
    }));
  }
}

SimDeviceOptions slow_streams(std::uint64_t seed) {
  return {.seed = seed, .max_delay = std::chrono::microseconds(300)};
}

TEST(DeviceExchange, DoesTheSameThroughHostMemoryAndOrdersEveryAccess) {
  for (const int size : {2, 3, 4}) {
    expect_all_well(run_ranks({.size = size}, [](Ranks& ranks) {
      SimDevice device(slow_streams(static_cast<std::uint64_t>(ranks.rank())));
      gather_and_reduce(device, ranks);
      for (const support::Race& race : device.races()) ADD_FAILURE() << race.text;
    }));
  }
}

TEST(DeviceExchange, CountsTheBytesThatGoToAndFromTheHost) {
  expect_all_well(run_ranks({.size = 3}, [](Ranks& ranks) {
    SimDevice device;
    RankOnDevice rank(device, ranks);
    rank.gather(0);
    std::uint64_t shards = 0;
    for (const std::uint64_t shard : kShards) shards += shard;
    EXPECT_EQ(rank.counters()[Hop::kDrain].bytes, shards);
    EXPECT_EQ(rank.counters()[Hop::kUpload].bytes, 2 * shards);
    rank.reduce(0);
    EXPECT_EQ(rank.counters()[Hop::kDrain].bytes, shards + 3 * kGradients * sizeof(float));
  }));
}

struct Outcome {
  std::vector<support::Race> races;
  std::vector<std::string> waits;
};

Outcome of_first_rank(std::size_t suppress_wait) {
  Outcome outcome;
  expect_all_well(run_ranks({.size = 2}, [&](Ranks& ranks) {
    const bool is_first = ranks.rank() == 0;
    SimDevice device({.suppress_wait = is_first ? suppress_wait : 0});
    gather_and_reduce(device, ranks);
    if (is_first) outcome = {device.races(), device.waits()};
  }));
  return outcome;
}

TEST(DeviceExchange, IsReportedWithoutAnyOneOfItsWaits) {
  const std::vector<std::string> waits = of_first_rank(0).waits;
  ASSERT_GT(waits.size(), 20u);
  for (std::size_t i = 0; i < waits.size(); ++i) {
    EXPECT_THAT(of_first_rank(i + 1).races, Not(IsEmpty()))
        << "without wait " << i + 1 << ": " << waits[i];
  }
}

TEST(DeviceExchange, EndsOnAllRanksWhenOneDies) {
  for (const std::uint64_t collective : {1, 4, 7}) {
    const ThreadRanks::Options options{
        .size = 3, .death = ThreadRanks::Death{.rank = 1, .collective = collective}};
    const auto thrown = run_ranks(options, [](Ranks& ranks) {
      SimDevice device;
      gather_and_reduce(device, ranks);
    });
    for (const std::exception_ptr& each : thrown) {
      ASSERT_TRUE(each);
      EXPECT_THROW(std::rethrow_exception(each), RankFailure);
    }
  }
}

}  // namespace
}  // namespace strata::zero3::device_exchange_test
