#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <tuple>
#include <utility>

#include "strata/base/error.h"
#include "strata/tiering/slot_pool.h"
#include "support/same_bytes.h"
#include "tiering/store_fixture.h"

// The store against a model that keeps every extent in memory: random flushes and fetches, several
// under way at once, over real files, while the directories' shares change.

namespace strata::tiering::shard_store_model_test {
namespace {

constexpr std::uint64_t kExtentBytesMax = 2_MiB + 4_KiB;
constexpr std::size_t kUnderWayMax = 6;

struct Geometry {
  std::size_t directories;
  std::uint64_t chunk_bytes;
};

/// An extent of the store and what it must hold.
struct ModelExtent {
  Extent extent;
  std::vector<std::byte> bytes;
};

/// A transfer under way with its buffer. Members in this order: the transfer goes first.
struct UnderWay {
  std::size_t extent;
  ByteRange range;
  bool flushing;
  StagingSlot slot;
  Transfer transfer;
};

class StoreAgainstModel : public testing::TestWithParam<Geometry> {
 protected:
  StoreAgainstModel() {
    for (std::size_t i = 0; i < GetParam().directories; ++i) {
      options_.directories.push_back(directory_.path());
    }
    options_.chunk_bytes = GetParam().chunk_bytes;
    store_ = std::make_unique<ShardStore>(options_, queue_, nvme_, counters_);
    const std::uint64_t chunk = options_.chunk_bytes;
    for (const std::uint64_t bytes : {std::uint64_t{1}, 4095ul, chunk, chunk + 1, 3 * chunk - 17,
                                      7 * chunk + 513, kExtentBytesMax - 1}) {
      const std::uint64_t fitting = std::min(bytes, kExtentBytesMax);
      extents_.push_back({store_->allocate(fitting, "extent " + std::to_string(bytes)),
                          std::vector<std::byte>(fitting)});
    }
  }

  std::uint64_t draw(std::uint64_t below) { return random_() % below; }

  ByteRange draw_range(std::uint64_t extent_bytes) {
    const std::uint64_t chunk = options_.chunk_bytes;
    const std::uint64_t chunks = ceil_div(extent_bytes, chunk);
    const std::uint64_t first = draw(chunks);
    const std::uint64_t last = first + 1 + draw(chunks - first);
    return {first * chunk, std::min(last * chunk, extent_bytes) - first * chunk};
  }

  /// Whether the store must refuse: one of the two is a flush, and they share bytes.
  bool conflicts(std::size_t extent, ByteRange range, bool flushing) const {
    return std::ranges::any_of(under_way_, [&](const UnderWay& other) {
      return other.extent == extent && (flushing || other.flushing) &&
             range.offset < other.range.offset + other.range.bytes &&
             other.range.offset < range.offset + range.bytes;
    });
  }

  void start_something() {
    const std::size_t index = draw(extents_.size());
    ModelExtent& model = extents_[index];
    const ByteRange range = draw_range(model.extent.bytes);
    const bool flushing = draw(2) == 0;
    auto slot = slots_.try_acquire();
    ASSERT_TRUE(slot);
    const auto published = slot->bytes().first(range.bytes);
    if (flushing) std::ranges::copy(random_bytes(range.bytes, random_()), published.begin());
    const auto begin = [&] {
      return flushing ? flush(*store_, model.extent, range, slot->bytes())
                      : fetch(*store_, model.extent, range, slot->bytes());
    };
    if (conflicts(index, range, flushing)) {
      EXPECT_THROW((void)begin(), UsageError);
      return;
    }
    auto transfer = begin();
    ASSERT_TRUE(transfer) << "the queue has room for all";
    if (flushing) {
      std::ranges::copy(published, model.bytes.begin() + static_cast<std::ptrdiff_t>(range.offset));
    }
    under_way_.push_back({index, range, flushing, std::move(*slot), std::move(*transfer)});
  }

  /// The directories become fast and slow as they like.
  void change_bandwidths() {
    std::vector<aio::PathBandwidth> bandwidths;
    for (std::size_t i = 0; i < GetParam().directories; ++i) {
      const auto rate = static_cast<double>(1 + draw(100));
      bandwidths.push_back({.read = rate, .write = rate});
    }
    store_->set_bandwidths(bandwidths);
  }

  void finish_one() {
    std::swap(under_way_[draw(under_way_.size())], under_way_.back());
    UnderWay& one = under_way_.back();
    one.transfer.wait();
    if (!one.flushing) {
      const auto expected =
          std::span(extents_[one.extent].bytes).subspan(one.range.offset, one.range.bytes);
      ASSERT_TRUE(support::same_bytes(one.slot.bytes().first(one.range.bytes), expected));
    }
    under_way_.pop_back();
  }

  support::TempDirectory directory_;
  std::ostringstream log_text_;
  Logger log_{log_text_};
  Counters counters_;
  Budget host_{Tier::kHost}, nvme_{Tier::kNvme};
  HostArena arena_{host_, 64_MiB, log_};
  SlotPool slots_{arena_, kUnderWayMax + 1, kExtentBytesMax};
  aio::IoQueue queue_{
      {.backend = IoBackend::kThreads, .operations_max = 4096}, directory_.path(), log_};
  ShardStore::Options options_;
  std::unique_ptr<ShardStore> store_;
  std::vector<ModelExtent> extents_;
  std::vector<UnderWay> under_way_;
  std::mt19937_64 random_{2026};
};

TEST_P(StoreAgainstModel, HoldsTheSameBytesAfterAnyMixOfTransfers) {
  for (int i = 0; i < 400; ++i) {
    if (draw(10) == 0) change_bandwidths();
    if (under_way_.size() < kUnderWayMax && draw(3) > 0) {
      ASSERT_NO_FATAL_FAILURE(start_something());
    } else if (!under_way_.empty()) {
      ASSERT_NO_FATAL_FAILURE(finish_one());
    }
  }
  while (!under_way_.empty()) ASSERT_NO_FATAL_FAILURE(finish_one());
}

INSTANTIATE_TEST_SUITE_P(Geometries, StoreAgainstModel,
                         testing::Values(Geometry{1, 4_KiB}, Geometry{1, 64_KiB},
                                         Geometry{1, 1_MiB}, Geometry{3, 4_KiB},
                                         Geometry{3, 64_KiB}, Geometry{3, 1_MiB}),
                         [](const auto& param_info) {
                           return std::to_string(param_info.param.directories) + "DirsChunk" +
                                  std::to_string(param_info.param.chunk_bytes / 1024) + "KiB";
                         });

}  // namespace
}  // namespace strata::tiering::shard_store_model_test
