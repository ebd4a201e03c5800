#include "zero3/master_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "optim_cpu/offloaded_shards.h"
#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "support/torture.h"

// Masters that are brought to homes on a simulated disk, against one plain split of the whole.

namespace strata::zero3::master_writer_test {
namespace {

using aio::Fault;
using optim_cpu::TestStore;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// A vector's format, and whether its states are on nvme.
struct VectorCase {
  StateFormat format;
  bool frozen = false;
  bool weight_on_nvme = true, master_on_nvme = true;
};

StateFormat bf16_of_24_bits() {
  StateFormat format = Precision::kBf16;
  format.master = MasterFormat::k24Bit;
  return format;
}

std::vector<VectorCase> all_cases() {
  std::vector<VectorCase> cases;
  for (const StateFormat& format : {StateFormat(Precision::kFp32), StateFormat(Precision::kFp16),
                                    StateFormat(Precision::kBf16), bf16_of_24_bits()}) {
    cases.push_back({.format = format});
    cases.push_back({.format = format, .frozen = true});
    cases.push_back({.format = format, .weight_on_nvme = false});
    cases.push_back({.format = format, .master_on_nvme = false});
  }
  return cases;
}

/// Parameters of a vector, with padding in between.
struct Layout {
  explicit Layout(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    while (parts.size() < 12) {
      const std::uint64_t begin = count + (random() % 3 == 0 ? random() % 6000 : 0);
      count = begin + 1 + random() % (random() % 2 == 0 ? 100 : 9000);
      parts.push_back({begin, count});
    }
    count += random() % 5000;
    masters.resize(count);
    std::normal_distribution<float> normal;
    for (const ElementRange part : parts) {
      for (std::uint64_t i = part.begin; i < part.end; ++i) masters[i] = normal(random);
    }
  }

  std::vector<ElementRange> parts;
  std::uint64_t count = 0;
  std::vector<float> masters;  ///< of all elements; those of no parameter are zeros
};

/// Homes of a vector, and what they hold when all its masters are there.
struct PlacedVector {
  PlacedVector(const VectorCase& given, const Layout& layout, TestStore& store)
      : format(given.format),
        weight_bytes(layout.count * weight_size()),
        master_bytes(given.frozen ? 0 : layout.count * master_size()),
        weight_memory(weight_bytes),
        master_memory(master_bytes),
        expected_weight(weight_bytes),
        expected_master(master_bytes) {
    weight = home(StateKind::kWeight, given.weight_on_nvme, weight_memory, store);
    master = home(StateKind::kMaster, given.master_on_nvme, master_memory, store);
    optim_cpu::split_master(format, layout.masters, expected_weight.data(),
                            master_bytes == 0 ? nullptr : expected_master.data());
  }

  [[nodiscard]] bool holds_the_masters(TestStore& store) const {
    const auto bytes = [&](const tiering::StateHome& of) {
      return of.extent ? store.read(*of.extent)
                       : std::vector<std::byte>(of.memory.begin(), of.memory.end());
    };
    return bytes(weight) == expected_weight && bytes(master) == expected_master;
  }

  StateFormat format;
  std::uint64_t weight_bytes, master_bytes;
  std::vector<std::byte> weight_memory, master_memory, expected_weight, expected_master;
  tiering::StateHome weight, master;

 private:
  [[nodiscard]] std::uint64_t weight_size() const {
    return state_bytes(format, StateKind::kWeight);
  }
  [[nodiscard]] std::uint64_t master_size() const {
    return state_bytes(format, StateKind::kMaster);
  }
  tiering::StateHome home(StateKind kind, bool on_nvme, std::vector<std::byte>& memory,
                          TestStore& store) {
    if (memory.empty()) return {};
    if (!on_nvme) return {.memory = memory};
    return {.extent = store.extent(0, kind, memory.size())};
  }
};

/// What a writer works with.
struct Workplace {
  Workplace(TestStore& store, std::size_t slot_count, int thread_count)
      : threads(thread_count),
        slots(arena, slot_count, TestStore::kChunk),
        places{.store = &store.store()} {}

  /// Writes all parameters of a layout; with a source that calls `before_block` first.
  void write(const PlacedVector& vector, const Layout& layout, std::uint64_t block_elements,
             const std::function<void()>& before_block = {}) {
    WritesInFlight writes(slots, places);
    MasterWriter writer(vector.format, layout.count, vector.weight, vector.master,
                        {.chunk_bytes = TestStore::kChunk,
                         .threads = threads,
                         .scratch = scratch,
                         .writes = &writes});
    for (const ElementRange part : layout.parts) {
      // The source is longer than what is written of it, as for a rank that keeps a part.
      const std::uint64_t ahead = part.begin % 1000, behind = part.end % 100;
      const MasterSource source{
          .count = ahead + part.count() + behind,
          .block_elements = block_elements,
          .block = [&](std::uint64_t begin, std::span<float> values) {
            if (before_block) before_block();
            for (std::size_t i = 0; i < values.size(); ++i) {
              const std::uint64_t at = part.begin + begin + i - ahead;
              values[i] = begin + i >= ahead && at < part.end ? layout.masters[at] : 1e9f;
            }
            return std::span<const float>(values);
          }};
      writer.write(part.begin, source, {ahead, ahead + part.count()});
    }
    writer.finish();
    writes.wait();
  }

  std::ostringstream log_text;
  Logger log{log_text};
  tiering::Budget host{tiering::Tier::kHost};
  tiering::HostArena arena{host, 4_MiB, log};
  optim_cpu::ComputeThreads threads;
  BlockScratch scratch;
  tiering::SlotPool slots;
  tiering::HomePlaces places;
};

TEST(MasterWriter, HasTheBitsOfOnePlainSplitWithAnyThreadsBuffersAndBlocks) {
  std::uint64_t seed = 0;
  for (const VectorCase& given : all_cases()) {
    for (const std::size_t slots : {2, 3, 16}) {
      for (const int threads : {1, 4}) {
        const Layout layout(++seed);
        TestStore store(std::make_shared<aio::SimulatedDisk>(aio::DiskOptions{.seed = seed}));
        const PlacedVector vector(given, layout, store);
        Workplace(store, slots, threads).write(vector, layout, seed % 2 == 0 ? 500 : 65536);
        EXPECT_TRUE(vector.holds_the_masters(store)) << "seed " << seed;
      }
    }
  }
}

TEST(MasterWriter, IsContentWithAnyRoomInTheQueue) {
  for (const std::uint32_t operations_max : {1u, 2u, 5u}) {
    ManualClock clock;
    TestStore store(std::make_shared<aio::SimulatedDisk>(aio::DiskOptions{}, &clock), clock,
                    operations_max);
    const Layout layout(7);
    const PlacedVector vector({.format = Precision::kBf16}, layout, store);
    Workplace(store, 16, 1).write(vector, layout, 500);
    EXPECT_TRUE(vector.holds_the_masters(store)) << operations_max;
  }
}

TEST(MasterWriter, HasManyWritesUnderWayAtOnce) {
  ManualClock clock;
  TestStore store(
      std::make_shared<aio::SimulatedDisk>(aio::DiskOptions{.latency_min = milliseconds(1),
                                                            .latency_max = milliseconds(1),
                                                            .write_bytes_per_second = 1e18},
                                           &clock),
      clock);
  Layout layout(1);
  layout.parts = {{0, 64 * 1024}};
  layout.count = 64 * 1024;
  layout.masters.assign(layout.count, 0.5f);
  const PlacedVector vector({.format = Precision::kFp32}, layout, store);
  Workplace workplace(store, 16, 1);
  const Time begin = clock.now();
  workplace.write(vector, layout, 1024);
  // 64 chunks, eight at a time.
  EXPECT_LE(clock.now() - begin, milliseconds(64 / 8 + 2));
  EXPECT_TRUE(vector.holds_the_masters(store));
}

TEST(MasterWriter, EndsInTheRightBytesOrInAnErrorWhateverTheDiskDoes) {
  std::vector<aio::FaultChance> chances = {{Fault::error(EIO), 0.01},
                                           {Fault::error(ENOSPC), 0.01},
                                           {Fault::try_again(), 0.05},
                                           {Fault::shortened(), 0.05},
                                           {Fault::torn(), 0.005},
                                           {Fault::lost(), 0.005},
                                           {Fault::slow(milliseconds(50)), 0.05}};
  std::size_t right = 0, refused = 0;
  const std::uint64_t seeds = support::torture_cases(200);
  const std::uint64_t first = (support::torture_seed() - 1) * seeds + 1;
  const std::uint64_t last_sure = first + seeds / 4 * 3;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    // From then on a write may never come back: then the queue serves nobody any more.
    if (seed == last_sure) chances.push_back({Fault::stuck(), 0.005});
    ManualClock clock;
    const auto disk = std::make_shared<aio::SimulatedDisk>(aio::DiskOptions{.seed = seed}, &clock);
    TestStore store(disk, clock, seed % 3 == 0 ? 3 : 64);
    const Layout layout(seed);
    const std::vector<VectorCase> cases = all_cases();
    const PlacedVector vector(cases[seed % cases.size()], layout, store);
    Workplace workplace(store, 2 + seed % 9, 1);
    disk->set_chances(chances);
    try {
      workplace.write(vector, layout, 500);
      EXPECT_TRUE(vector.holds_the_masters(store)) << "seed " << seed;
      ++right;
    } catch (const Error&) {  // of a write, or of reading back what was torn or lost
      ++refused;
    }
    if (seed >= last_sure) continue;
    EXPECT_EQ(workplace.slots.free_count(), workplace.slots.count()) << "seed " << seed;
    disk->set_chances({});
    workplace.write(vector, layout, 500);  // where nothing was half done
    EXPECT_TRUE(vector.holds_the_masters(store)) << "seed " << seed;
  }
  EXPECT_GT(right, seeds / 10);
  EXPECT_GT(refused, seeds / 10);
  support::report_cases("placements of masters over a disk that fails", seeds);
}

TEST(MasterWriter, GivesEveryBufferBackWhenASourceThrowsWhileWritesAreUnderWay) {
  const auto disk = std::make_shared<aio::SimulatedDisk>(
      aio::DiskOptions{.latency_min = milliseconds(5), .latency_max = milliseconds(5)});
  TestStore store(disk);
  const Layout layout(3);
  const PlacedVector vector({.format = Precision::kBf16}, layout, store);
  Workplace workplace(store, 16, 4);
  std::atomic<int> blocks = 0;
  EXPECT_THROW(workplace.write(vector, layout, 500,
                               [&] {
                                 if (++blocks == 40) throw DataError("a source that fails");
                               }),
               DataError);
  EXPECT_EQ(workplace.slots.free_count(), workplace.slots.count());
  workplace.write(vector, layout, 500);
  EXPECT_TRUE(vector.holds_the_masters(store));
}

}  // namespace
}  // namespace strata::zero3::master_writer_test
