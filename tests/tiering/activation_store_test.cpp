#include "strata/tiering/activation_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "strata/aio/io_queue.h"
#include "strata/base/error.h"
#include "strata/tiering/host_device.h"
#include "tiering/store_fixture.h"

// What a store of activations promises: the bytes come back, within the room that it has.

namespace strata::tiering::activation_store_test {
namespace {

using aio::Fault;
using aio::OpKind;

DeviceSpan span_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<std::uintptr_t>(bytes.data()), bytes.size()};
}

/// Brought bytes, in memory that was full of others.
std::vector<std::byte> brought(ActivationStore& store, const ActivationTicket& ticket) {
  std::vector<std::byte> bytes(ticket.bytes(), std::byte{0xee});
  store.bring(ticket, span_of(bytes));
  return bytes;
}

class ActivationStoreTest : public StoreTest {
 protected:
  std::unique_ptr<ActivationStore> make(std::uint64_t host_bytes, std::uint64_t nvme_bytes) {
    const ActivationRoom room = activation_room(host_bytes, nvme_bytes, kChunk);
    ActivationStore::Places places{.memory = arena_.take(room.host_bytes(), "activations"),
                                   .device = &device_};
    if (room.places > 0) {
      places.store = &store_;
      places.extent = store_.allocate(room.nvme_bytes(), "activations");
    }
    return std::make_unique<ActivationStore>(room, places, counters_);
  }

  /// Requests of a kind since start_trace.
  std::size_t requests(OpKind kind) const {
    const auto trace = disk_->trace();
    return static_cast<std::size_t>(
        std::ranges::count_if(trace, [&](const auto& event) { return event.kind == kind; }));
  }

  Budget device_budget_{Tier::kDevice};
  HostArena device_arena_{device_budget_, 1_MiB, log_};
  HostDevice device_{device_arena_};
};

TEST(ActivationRoom, IsCutIntoSeveralPagesOfTheGrid) {
  EXPECT_EQ(activation_room(1_GiB, 0, 1_MiB),
            (ActivationRoom{.page_bytes = 4_MiB, .frames = 256, .places = 0}));
  EXPECT_EQ(activation_room(1_GiB, 8_GiB, 1_MiB),
            (ActivationRoom{.page_bytes = 4_MiB, .frames = 256, .places = 2048}));
  EXPECT_EQ(activation_room(0, 1_GiB, 1_MiB),
            (ActivationRoom{.page_bytes = 4_MiB, .frames = 4, .places = 256}));
  EXPECT_EQ(activation_room(256_KiB, 1_MiB, 4_KiB),
            (ActivationRoom{.page_bytes = 32_KiB, .frames = 8, .places = 32}));
  EXPECT_EQ(activation_room(100_KiB, 0, 1_MiB),
            (ActivationRoom{.page_bytes = 12_KiB, .frames = 8, .places = 0}));
  EXPECT_TRUE(activation_room(0, 0, 1_MiB).is_empty());
  EXPECT_TRUE(activation_room(0, 64_KiB, 1_MiB).is_empty()) << "less than a page";
}

TEST_F(ActivationStoreTest, GivesBackFromHostMemoryWhatItTook) {
  const auto store = make(512_KiB, 0);
  const auto first = random_bytes(100'000, 1), second = random_bytes(3, 2);
  const auto of_first = store->put(span_of(first)), of_second = store->put(span_of(second));
  ASSERT_TRUE(of_first && of_second);
  EXPECT_EQ(brought(*store, *of_second), second);
  EXPECT_EQ(brought(*store, *of_first), first);
  EXPECT_EQ(brought(*store, *of_first), first) << "a second time";
  EXPECT_EQ(store->reading().put, first.size() + second.size());
}

TEST_F(ActivationStoreTest, SendsToNvmeWhatHostMemoryHasNoRoomFor) {
  const auto store = make(512_KiB, 4_MiB);
  const std::uint64_t host = host_.used(), nvme = nvme_.used();
  std::vector<std::vector<std::byte>> values;
  std::vector<ActivationTicket> tickets;
  for (std::uint64_t i = 0; i < 20; ++i) {
    values.push_back(random_bytes(200'000, i));
    auto ticket = store->put(span_of(values.back()));
    ASSERT_TRUE(ticket) << i;
    tickets.push_back(*std::move(ticket));
  }
  EXPECT_GE(store->reading().written, 20 * 200'000 - 512_KiB);
  while (!tickets.empty()) {
    EXPECT_EQ(brought(*store, tickets.back()), values[tickets.size() - 1]);
    tickets.pop_back();
  }
  EXPECT_EQ(host_.used(), host) << "all is taken when the store is made";
  EXPECT_EQ(nvme_.used(), nvme);
}

TEST_F(ActivationStoreTest, ServesFromMemoryWhatIsStillBeingWritten) {
  const auto store = make(512_KiB, 4_MiB);
  disk_->start_trace();
  const auto value = random_bytes(7 * kChunk, 5);
  const auto ticket = store->put(span_of(value));
  ASSERT_TRUE(ticket);
  ASSERT_GT(store->reading().written, 0u) << "some of it is on its way to the disk";
  EXPECT_EQ(brought(*store, *ticket), value);
  EXPECT_EQ(requests(OpKind::kRead), 0u);
  EXPECT_EQ(store->reading().read, 0u);
}

TEST_F(ActivationStoreTest, WritesNothingThatHostMemoryHasRoomFor) {
  const auto store = make(1_MiB, 4_MiB);
  const auto value = random_bytes(512_KiB, 5);
  const auto ticket = store->put(span_of(value));
  ASSERT_TRUE(ticket);
  EXPECT_EQ(store->reading().written, 0u);
}

TEST_F(ActivationStoreTest, ReadsAheadInTheOrderOfUse) {
  const auto store = make(512_KiB, 4_MiB);
  std::vector<ActivationTicket> tickets;
  for (std::uint64_t i = 0; i < 24; ++i) {
    store->begin_group();
    tickets.push_back(*store->put(span_of(random_bytes(kChunk, i))));
  }
  std::size_t brought_from_disk = 0;
  while (!tickets.empty()) {
    const std::uint64_t read = store->reading().read;
    const auto index = tickets.size() - 1;
    EXPECT_EQ(brought(*store, tickets.back()), random_bytes(kChunk, index));
    if (index > 0 && index < 12) {
      EXPECT_GT(read, brought_from_disk * kChunk) << "ticket " << index << " was not read ahead";
    }
    if (index < 16) ++brought_from_disk;
    tickets.pop_back();
  }
  EXPECT_LE(store->reading().read, 20 * kChunk) << "pages were read twice";
}

TEST_F(ActivationStoreTest, KeepsTheOrderOfPutsWithinAGroup) {
  const auto store = make(512_KiB, 4_MiB);
  std::map<int, ActivationTicket> tickets;
  int next = 0;
  for (int group = 0; group < 6; ++group) {
    store->begin_group();
    for (int i = 0; i < 4; ++i, ++next) {
      tickets.emplace(next,
                      *store->put(span_of(random_bytes(kChunk, static_cast<unsigned>(next)))));
    }
  }
  for (int group = 6; group-- > 0;) {
    for (int i = 0; i < 4; ++i) {
      const auto found = tickets.find(4 * group + i);
      EXPECT_EQ(brought(*store, found->second),
                random_bytes(kChunk, static_cast<unsigned>(found->first)));
      tickets.erase(found);
    }
  }
  EXPECT_LE(store->reading().read, 20 * kChunk) << "pages were read twice";
}

TEST_F(ActivationStoreTest, AFullStoreTakesNothingAndTakesAgainOnceRoomComesBack) {
  for (const std::uint64_t nvme : {std::uint64_t{0}, std::uint64_t{1_MiB}}) {
    const auto store = make(512_KiB, nvme);
    std::vector<ActivationTicket> tickets;
    while (auto ticket = store->put(span_of(random_bytes(100'000, tickets.size())))) {
      tickets.push_back(*std::move(ticket));
    }
    EXPECT_GE(tickets.size(), (nvme + 512_KiB) / 100'000 - 3);
    EXPECT_EQ(store->reading().refused, 100'000u);
    for (std::size_t i = 0; i < tickets.size(); ++i) {
      EXPECT_EQ(brought(*store, tickets[i]), random_bytes(100'000, i)) << i;
    }
    tickets.pop_back();
    tickets.pop_back();
    EXPECT_TRUE(store->put(span_of(random_bytes(100'000, 77))));
    EXPECT_FALSE(store->put(span_of(random_bytes(8_MiB, 78)))) << "more than there is";
  }
}

TEST_F(ActivationStoreTest, TicketsMayOutliveIt) {
  auto store = make(512_KiB, 4_MiB);
  const auto ticket = store->put(span_of(random_bytes(7 * kChunk, 1)));
  ASSERT_TRUE(ticket);
  store.reset();
}

TEST_F(ActivationStoreTest, GivesRoomBackForWhatIsNeverWanted) {
  const auto store = make(512_KiB, 1_MiB);
  for (std::uint64_t i = 0; i < 50; ++i) {
    EXPECT_TRUE(store->put(span_of(random_bytes(1'200'000, i)))) << i;
  }
}

TEST_F(ActivationStoreTest, FindsBytesThatTheDiskChanged) {
  const auto store = make(512_KiB, 4_MiB);
  const auto value = random_bytes(2_MiB, 1);
  const auto ticket = store->put(span_of(value));
  ASSERT_TRUE(ticket);
  disk_->inject(OpKind::kRead, Fault::flipped_bit());
  EXPECT_THROW(brought(*store, *ticket), CorruptData);
  EXPECT_EQ(brought(*store, *ticket), value) << "the disk itself is whole";
}

TEST_F(ActivationStoreTest, SaysThatTheDiskDoesNotTakeThem) {
  const auto store = make(512_KiB, 4_MiB);
  disk_->set_chances({{.fault = Fault::error(EIO), .probability = 1}});
  EXPECT_THROW((void)store->put(span_of(random_bytes(2_MiB, 1))), IoError);
  disk_->set_chances({});
  const auto value = random_bytes(2_MiB, 2);
  const auto ticket = store->put(span_of(value));
  ASSERT_TRUE(ticket);
  EXPECT_EQ(brought(*store, *ticket), value);
}

TEST_F(ActivationStoreTest, RefusesAnotherLengthAndAnotherStoresTicket) {
  const auto store = make(512_KiB, 0), other = make(512_KiB, 0);
  const auto ticket = store->put(span_of(random_bytes(10, 1)));
  std::vector<std::byte> target(10);
  EXPECT_THROW(store->bring(*ticket, span_of(target).first(9)), UsageError);
  EXPECT_THROW(other->bring(*ticket, span_of(target)), UsageError);
}

/// Puts, brings and drops at random, and compares with what was put.
template <class Drop>
void walk(ActivationStore& store, std::uint64_t seed, const Drop& drop) {
  std::mt19937_64 random(seed);
  std::map<std::uint64_t, ActivationTicket> kept;
  const auto bytes_of = [](std::uint64_t i) { return random_bytes(1 + i * 7919 % 300'000, i); };
  for (std::uint64_t i = 0; i < 150; ++i) {
    if (random() % 3 == 0) store.begin_group();
    if (auto ticket = store.put(span_of(bytes_of(i)))) kept.emplace(i, *std::move(ticket));
    for (std::uint64_t times = random() % 3; times > 0 && !kept.empty(); --times) {
      auto chosen = std::prev(kept.end());
      if (random() % 4 == 0) {
        chosen = kept.begin();
        std::advance(chosen, random() % kept.size());
      }
      EXPECT_EQ(brought(store, chosen->second), bytes_of(chosen->first)) << "step " << i;
      if (random() % 4 > 0) {
        drop(std::move(chosen->second));
        kept.erase(chosen);
      }
    }
  }
}

TEST_F(ActivationStoreTest, RandomProgramsFindTheirBytes) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const auto store = make(seed % 2 == 0 ? 512_KiB : 256_KiB, (seed % 4) * 512_KiB);
    walk(*store, seed, [](ActivationTicket&&) {});
  }
}

TEST(ActivationStoreThreads, TicketsComeBackFromOtherThreads) {
  const support::TempDirectory directory;
  std::ostringstream log_text;
  Logger log(log_text);
  Counters counters;
  Budget host(Tier::kHost), nvme(Tier::kNvme), device_budget(Tier::kDevice);
  aio::IoQueue queue({}, aio::make_simulated_backend({}), log);
  ShardStore shards({.directories = {directory.path()}, .chunk_bytes = 64_KiB}, queue, nvme,
                    counters);
  HostArena arena(host, 64_MiB, log), device_arena(device_budget, 1_MiB, log);
  HostDevice device(device_arena);
  const ActivationRoom room = activation_room(512_KiB, 2_MiB, 64_KiB);
  ActivationStore store(room,
                        {.memory = arena.take(room.host_bytes(), "activations"),
                         .store = &shards,
                         .extent = shards.allocate(room.nvme_bytes(), "activations"),
                         .device = &device},
                        counters);
  std::vector<std::jthread> droppers;
  walk(store, 11, [&](ActivationTicket&& ticket) {
    droppers.emplace_back([dropped = std::move(ticket)]() mutable {
      const ActivationTicket gone = std::move(dropped);
    });
  });
}

}  // namespace
}  // namespace strata::tiering::activation_store_test
