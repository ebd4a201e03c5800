#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <cerrno>
#include <csignal>

#include "strata/base/error.h"
#include "tiering/store_fixture.h"

// A full disk is found out when an extent is made, never by a write in the middle of a step.

namespace strata::tiering::shard_store_disk_full_test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

/// Limits the size of files that this process can make, for one scope.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

/// A file system of a given size, mounted for one scope, where the machine permits it.
class SmallFileSystem {
 public:
  SmallFileSystem(const std::filesystem::path& path, const std::string& size) : path_(path) {
    std::filesystem::create_directory(path);
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
  }
  ~SmallFileSystem() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }

 private:
  std::filesystem::path path_;
  bool mounted_ = false;
};

class FullDiskTest : public StoreTest {
 protected:
  /// Fills the store until it says that the disk is full; returns the error's errno.
  static int fill(ShardStore& store, std::vector<Extent>& extents) {
    for (int i = 0; i < 1000; ++i) {
      try {
        extents.push_back(store.allocate(10 * kChunk, "blocks." + std::to_string(i) + " m"));
      } catch (const IoError& error) {
        EXPECT_THAT(error.what(),
                    AllOf(HasSubstr("blocks." + std::to_string(i) + " m"), HasSubstr("640 KiB")));
        return error.code();
      }
    }
    return 0;
  }
};

TEST_F(FullDiskTest, ALimitOnFileSizeIsFoundWhenTheExtentIsMade) {
  const FileSizeLimit limit(35 * kChunk);
  std::vector<Extent> extents;
  EXPECT_EQ(fill(store_, extents), EFBIG);
  ASSERT_EQ(extents.size(), 3u);
  EXPECT_EQ(nvme_.used(), 30 * kChunk) << "the refused extent is not charged";
  const auto bytes = random_bytes(10 * kChunk, 1);
  for (const Extent extent : extents) write(extent, bytes);
  for (const Extent extent : extents) EXPECT_EQ(read(extent), bytes);
}

TEST_F(FullDiskTest, AFullFileSystemIsFoundWhenTheExtentIsMade) {
  const SmallFileSystem disk(directory_.path() / "small", "4m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a file system needs root";
  ShardStore store({.directories = {directory_.path() / "small"}, .chunk_bytes = kChunk}, queue_,
                   nvme_, counters_);
  std::vector<Extent> extents;
  EXPECT_EQ(fill(store, extents), ENOSPC);
  EXPECT_EQ(extents.size(), 6u);
  for (const Extent extent : extents) {
    auto transfer = flush(store, extent, {0, extent.bytes}, buffer_);
    ASSERT_TRUE(transfer);
    EXPECT_NO_THROW(transfer->wait());
  }
}

TEST_F(FullDiskTest, ARefusedExtentTakesNoBlocksOfTheDirectoriesThatHadRoom) {
  const std::filesystem::path large = directory_.path() / "large";
  const SmallFileSystem first(large, "16m");
  const SmallFileSystem second(directory_.path() / "small", "1m");
  if (!first.mounted() || !second.mounted()) GTEST_SKIP() << "mounting a file system needs root";
  ShardStore store({.directories = {large, directory_.path() / "small"}, .chunk_bytes = kChunk},
                   queue_, nvme_, counters_);
  const std::uint64_t before = std::filesystem::space(large).free;
  EXPECT_THROW((void)store.allocate(32_MiB, "blocks.3 m"), IoError);
  EXPECT_EQ(std::filesystem::space(large).free, before);
  EXPECT_EQ(nvme_.used(), 0u);
}

TEST_F(FullDiskTest, ADirectoryWithRoomTakesWhatAFullOneCannot) {
  const SmallFileSystem small(directory_.path() / "small", "1m");
  const SmallFileSystem large(directory_.path() / "large", "32m");
  if (!small.mounted() || !large.mounted()) GTEST_SKIP() << "mounting is not permitted";
  ShardStore store({.directories = {directory_.path() / "small", directory_.path() / "large"},
                    .chunk_bytes = kChunk},
                   queue_, nvme_, counters_);
  const Extent extent = store.allocate(60 * kChunk, "blocks.3 m");
  const auto uses = store.directories();
  EXPECT_LE((uses[0].chunks + uses[0].spares) * kChunk, 1_MiB);
  EXPECT_EQ(uses[0].chunks + uses[1].chunks, 60u);
  const auto bytes = random_bytes(extent.bytes, 1);
  std::ranges::copy(bytes, buffer_.begin());
  auto transfer = flush(store, extent, {0, extent.bytes}, buffer_);
  ASSERT_TRUE(transfer);
  transfer->wait();
  transfer = fetch(store, extent, {0, extent.bytes}, buffer_);
  transfer->wait();
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), buffer_.begin()));
  std::vector<Extent> extents;
  EXPECT_EQ(fill(store, extents), ENOSPC) << "in the end both are full";
  EXPECT_GT(extents.size(), 20u);
}

}  // namespace
}  // namespace strata::tiering::shard_store_disk_full_test
