#include "aio/environment.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "aio/aligned_buffer.h"
#include "aio/denied_syscall.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"

namespace strata::aio::environment_test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

std::string message_of(int code, const std::function<void()>& action) {
  const auto error = support::caught<IoError>(action);
  if (!error) return support::kNothingThrown;
  EXPECT_EQ(error->code(), code) << error->what();
  return error->what();
}

/// A test in an environment that it makes itself.
class InEnvironment : public testing::Test {
 protected:
  /// False, and the test counts as skipped, where the machine cannot make it.
  bool enter(const std::function<EnvironmentPtr()>& make) {
    try {
      environment = make();
      return true;
    } catch (const Unavailable& unavailable) {
      skip(unavailable.what());
      return false;
    }
  }

  std::ostringstream log_text;
  Logger log{log_text};
  EnvironmentPtr environment;

 private:
  static void skip(const std::string& reason) { GTEST_SKIP() << reason; }
};

// ---- full disks -------------------------------------------------------------------------------

using FullDisk = InEnvironment;

TEST_F(FullDisk, RefusesPreallocationWithTheBytesAskedForAndFree) {
  if (!enter([] { return mount_tmpfs(1_MiB); })) return;
  IoFile file = IoFile::create_scratch(environment->directory());
  const std::string message = message_of(ENOSPC, [&] { file.preallocate(2_MiB); });
  EXPECT_THAT(message, HasSubstr("allocate 2.00 MiB (2097152 bytes)"));
  EXPECT_THAT(message, HasSubstr(file.path().string()));
  EXPECT_THAT(message, HasSubstr("are free"));
  EXPECT_THAT(message, HasSubstr("free some space or name another directory"));
  EXPECT_EQ(file.size(), 0u);
  file.preallocate(512_KiB);
}

TEST_F(FullDisk, RefusesAQueueAndSaysWhere) {
  if (!enter([] { return mount_tmpfs(64_KiB); })) return;
  std::ofstream filler(environment->directory() / "filler");
  filler << std::string(1_MiB, 'x') << std::flush;
  const std::string message =
      message_of(ENOSPC, [&] { const IoQueue queue({}, environment->directory(), log); });
  EXPECT_THAT(message, HasSubstr(environment->directory().string()));
  filler.close();
}

struct HoleCase {
  std::string name;
  IoBackend backend;
  std::function<EnvironmentPtr()> make_environment;
};
void PrintTo(const HoleCase& test, std::ostream* out) { *out << test.name; }

class HoleOnAFullDisk : public InEnvironment, public testing::WithParamInterface<HoleCase> {
 protected:
  /// Takes all that is left on the disk.
  static void fill(IoFile& filler) {
    for (std::uint64_t step = 8_MiB; step >= 4_KiB; step /= 2) {
      try {
        while (true) filler.preallocate(filler.size() + step);
      } catch (const IoError&) {  // no room for a step of this size
      }
    }
  }
};

TEST_P(HoleOnAFullDisk, FailsTheWriteThatMeetsItAndNoOther) {
  constexpr std::uint64_t kHalf = 1_MiB;
  if (!enter(GetParam().make_environment)) return;
  std::optional<IoQueue> queue;
  try {
    queue.emplace(IoQueueOptions{.backend = GetParam().backend, .block_bytes = 64 << 10},
                  environment->directory(), log);
  } catch (const IoError& error) {
    GTEST_SKIP() << error.what();
  }
  IoFile file = IoFile::create_scratch(environment->directory());
  file.preallocate(2 * kHalf);
  ASSERT_EQ(::fallocate(file.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kHalf, kHalf), 0);
  std::optional<IoFile> filler = IoFile::create_scratch(environment->directory());
  fill(*filler);

  AlignedBuffer buffer(2 * kHalf);
  buffer.fill_randomly(51);
  const std::string message = message_of(ENOSPC, [&] {
    queue->submit({OpKind::kWrite, &file, 0, buffer.span()}).wait();
  });
  EXPECT_THAT(message, HasSubstr("write of " + file.path().string() + " at offset "));
  EXPECT_THAT(message, HasSubstr("free some space on this file system"));
  queue->submit({OpKind::kWrite, &file, 0, buffer.span(0, kHalf)}).wait();

  filler.reset();
  queue->submit({OpKind::kWrite, &file, 0, buffer.span()}).wait();
  AlignedBuffer back(2 * kHalf);
  queue->submit({OpKind::kRead, &file, 0, back.span()}).wait();
  EXPECT_TRUE(back == buffer);
}

std::vector<HoleCase> hole_cases() {
  std::vector<HoleCase> cases;
  for (const auto& [engine, kind] :
       {std::pair{"io_uring", IoBackend::kIoUring}, std::pair{"libaio", IoBackend::kLibaio},
        std::pair{"threads", IoBackend::kThreads}}) {
    cases.push_back({std::string(engine) + "_on_tmpfs", kind, [] { return mount_tmpfs(4_MiB); }});
    cases.push_back({std::string(engine) + "_on_ext4", kind, [] { return mount_ext4(512); }});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Engines, HoleOnAFullDisk, testing::ValuesIn(hole_cases()),
                         [](const auto& test) { return test.param.name; });

// ---- a disk that stops answering --------------------------------------------------------------

struct StallCase {
  std::string name;
  IoBackend backend;
  Stalls stalls;
};
void PrintTo(const StallCase& test, std::ostream* out) { *out << test.name; }

class StalledDisk : public testing::TestWithParam<StallCase> {};

TEST_P(StalledDisk, FailsTheTransferInTimeAndHoldsUpNoDestructor) {
  // Lent for ever: the kernel uses them for as long as the disk stalls, and nobody hears of the
  // end.
  static AlignedBuffer& buffer = *new AlignedBuffer(256_KiB);
  static std::vector<IoFile>& files = *new std::vector<IoFile>();
  std::ostringstream log_text;
  Logger log(log_text);
  std::unique_ptr<StallingDisk> disk;
  try {
    disk = mount_stalling_disk(GetParam().stalls);
  } catch (const Unavailable& unavailable) {
    GTEST_SKIP() << unavailable.what();
  }
  std::optional<IoQueue> queue;
  try {
    queue.emplace(IoQueueOptions{.backend = GetParam().backend,
                                 .block_bytes = 64 << 10,
                                 .warn_after = milliseconds(100),
                                 .fail_after = milliseconds(500)},
                  disk->directory(), log);
  } catch (const IoError& error) {
    GTEST_SKIP() << error.what();
  }
  files.reserve(6);  // one for each case: they must not move
  IoFile& file = files.emplace_back(IoFile::create_scratch(disk->directory()));
  file.preallocate(1_MiB);
  const auto write = [&] { queue->submit({OpKind::kWrite, &file, 0, buffer.span()}).wait(); };
  write();

  disk->stall();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THROW(write(), DeadlineExceeded);
  EXPECT_THROW(write(), DeadlineExceeded);
  queue.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  const bool is_held_up =
      GetParam().stalls == Stalls::kFileSystem && GetParam().backend == IoBackend::kLibaio;
  EXPECT_THAT(log_text.str(), HasSubstr(is_held_up ? "warning: the I/O engine libaio is held up"
                                                   : "warning: write of " + file.path().string()));
  EXPECT_THAT(log_text.str(), HasSubstr("error: write of " + file.path().string()));
  disk->go_on();
}

std::vector<StallCase> stall_cases() {
  std::vector<StallCase> cases;
  for (const auto& [engine, kind] : {std::pair{"io_uring", IoBackend::kIoUring},
                                     {"libaio", IoBackend::kLibaio},
                                     {"threads", IoBackend::kThreads}}) {
    cases.push_back({std::string(engine) + "_on_a_stuck_device", kind, Stalls::kDevice});
    cases.push_back({std::string(engine) + "_on_a_frozen_file_system", kind, Stalls::kFileSystem});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Engines, StalledDisk, testing::ValuesIn(stall_cases()),
                         [](const auto& test) { return test.param.name; });

// ---- directories that take no file ------------------------------------------------------------

using ReadOnlyDirectory = InEnvironment;

TEST_F(ReadOnlyDirectory, OnAReadOnlyFileSystemIsNamed) {
  if (!enter([] { return mount_tmpfs(1_MiB, /*read_only=*/true); })) return;
  const std::string message =
      message_of(EROFS, [&] { const IoQueue queue({}, environment->directory(), log); });
  EXPECT_THAT(message, HasSubstr(environment->directory().string()));
  EXPECT_THAT(message, HasSubstr("name an existing directory that this user may write to"));
}

TEST_F(ReadOnlyDirectory, OfSomebodyElseIsNamed) {
  if (!enter([] { return mount_tmpfs(1_MiB); })) return;
  ASSERT_EQ(::chmod(environment->directory().c_str(), 0555), 0);
  const WithoutCapability bounded(CAP_DAC_OVERRIDE);
  const std::string message =
      message_of(EACCES, [&] { const IoQueue queue({}, environment->directory(), log); });
  EXPECT_THAT(message, HasSubstr(environment->directory().string()));
}

// ---- blocks of a device -----------------------------------------------------------------------

class BlocksOfADevice : public InEnvironment, public testing::WithParamInterface<std::uint32_t> {
 protected:
  void SetUp() override {
    if (!enter([] { return mount_ext4(GetParam()); })) return;
  }
};

TEST_P(BlocksOfADevice, AreTheAlignmentOfItsFiles) {
  const IoFile file = IoFile::create_scratch(environment->directory());
  EXPECT_TRUE(file.direct());
  EXPECT_EQ(file.alignment(), GetParam());
}

TEST_P(BlocksOfADevice, AreFoundByTrialWhereTheKernelDoesNotTell) {
  // A thread of the sandbox's own: it has this thread's view of the mounts.
  const bool ran = run_with_denied_syscall({SYS_statx, ENOSYS, {}}, [&] {
    const IoFile file = IoFile::create_scratch(environment->directory());
    EXPECT_TRUE(file.direct());
    EXPECT_EQ(file.alignment(), GetParam());
  });
  if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
}

TEST_P(BlocksOfADevice, BoundWhatAQueueTakes) {
  IoQueue queue({}, environment->directory(), log);
  IoFile file = IoFile::create_scratch(environment->directory());
  file.preallocate(1_MiB);
  AlignedBuffer buffer(64_KiB);
  const std::uint32_t block = GetParam();
  const auto write = [&](std::uint64_t offset, std::size_t from, std::size_t bytes) {
    queue.submit({OpKind::kWrite, &file, offset, buffer.span(from, bytes)}).wait();
  };
  write(block, block, block);
  EXPECT_THROW(write(block / 2, 0, block), UsageError);
  EXPECT_THROW(write(0, block / 2, block), UsageError);
  EXPECT_THROW(write(0, 0, block + block / 2), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Sizes, BlocksOfADevice, testing::Values(512u, 4096u),
                         testing::PrintToStringParamName());

// ---- what tests leave behind ------------------------------------------------------------------

TEST(Environments, LeaveNothingBehind) {
  std::filesystem::path mounted;
  try {
    const EnvironmentPtr overlay = mount_overlay();
    const EnvironmentPtr ext4 = mount_ext4(4096);
    mounted = ext4->directory();
    EXPECT_TRUE(std::filesystem::exists(mounted / "lost+found"));
    std::ifstream everybody("/proc/1/mounts");
    const std::string seen(std::istreambuf_iterator<char>(everybody), {});
    EXPECT_THAT(seen, testing::Not(HasSubstr(mounted.string()))) << "others see it";
  } catch (const Unavailable& unavailable) {
    GTEST_SKIP() << unavailable.what();
  }
  EXPECT_FALSE(std::filesystem::exists(mounted));
  std::ifstream mounts("/proc/thread-self/mounts");
  const std::string seen(std::istreambuf_iterator<char>(mounts), {});
  EXPECT_THAT(seen, testing::Not(HasSubstr("strata-test-")));
}

}  // namespace
}  // namespace strata::aio::environment_test
