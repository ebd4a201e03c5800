#include "strata/aio/io_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>

#include "aio/aligned_buffer.h"
#include "aio/denied_syscall.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"

namespace strata::aio::io_file_test {
namespace {

using support::message_of;
using testing::HasSubstr;

std::filesystem::path here() { return std::filesystem::current_path(); }

struct stat status_of(const IoFile& file) {
  struct stat status {};
  EXPECT_EQ(::fstat(file.fd(), &status), 0);
  return status;
}

TEST(ScratchFile, HasNoNameAndIsPrivateAndIsNotInherited) {
  const IoFile file = IoFile::create_scratch(here());
  EXPECT_FALSE(std::filesystem::exists(file.path()));
  EXPECT_EQ(file.path().parent_path(), here());
  EXPECT_EQ(status_of(file).st_nlink, 0u);
  EXPECT_EQ(status_of(file).st_mode & 07777, 0600u);
  EXPECT_EQ(::fcntl(file.fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(file.size(), 0u);
}

TEST(ScratchFile, TakesTransfersOfItsAlignment) {
  for (const std::filesystem::path& directory : {here(), std::filesystem::path("/dev/shm")}) {
    const IoFile file = IoFile::create_scratch(directory);
    const std::uint32_t alignment = file.alignment();
    EXPECT_GE(alignment, 512u);
    EXPECT_TRUE(std::has_single_bit(alignment));
    EXPECT_EQ((::fcntl(file.fd(), F_GETFL) & O_DIRECT) != 0, file.direct());
    AlignedBuffer buffer(2 * alignment);
    EXPECT_EQ(::pwrite(file.fd(), buffer.span().data() + alignment, alignment, alignment),
              static_cast<ssize_t>(alignment));
  }
}

TEST(ScratchFile, FindsItsAlignmentByTrialWhereTheKernelDoesNotTell) {
  const bool ran = run_with_denied_syscall({SYS_statx, ENOSYS, {}}, [] {
    const IoFile file = IoFile::create_scratch(here());
    EXPECT_GE(file.alignment(), 512u);
    EXPECT_EQ(status_of(file).st_size, 0);
  });
  if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
}

TEST(ScratchFile, IsBufferedWhereDirectTransfersAreRefused) {
  const bool ran = run_with_denied_syscall({SYS_fcntl, EINVAL, F_SETFL}, [] {
    const IoFile file = IoFile::create_scratch(here());
    EXPECT_FALSE(file.direct());
    EXPECT_EQ(file.alignment(), 512u);
  });
  if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
}

TEST(ScratchFile, NamesTheDirectoryThatCannotHoldIt) {
  const std::string message =
      message_of<IoError>([] { (void)IoFile::create_scratch("/nonexistent/directory"); });
  EXPECT_THAT(message, HasSubstr("/nonexistent/directory"));
  EXPECT_THAT(message, HasSubstr("ENOENT"));
  EXPECT_THAT(message, HasSubstr("name an existing directory"));
}

TEST(ScratchFile, MovesItsDescriptor) {
  IoFile first = IoFile::create_scratch(here());
  first.preallocate(64_KiB);
  const int fd = first.fd();
  IoFile second = std::move(first);
  EXPECT_EQ(second.fd(), fd);
  EXPECT_EQ(second.size(), 64_KiB);
  IoFile third = IoFile::create_scratch(here());
  const int replaced = third.fd();
  third = std::move(second);
  EXPECT_EQ(third.fd(), fd);
  EXPECT_EQ(::fcntl(replaced, F_GETFD), -1) << "the replaced file stayed open";
}

TEST(Preallocate, AllocatesEveryBlock) {
  for (const std::filesystem::path& directory : {here(), std::filesystem::path("/dev/shm")}) {
    IoFile file = IoFile::create_scratch(directory);
    file.preallocate(3_MiB);
    EXPECT_EQ(file.size(), 3_MiB);
    EXPECT_EQ(status_of(file).st_size, static_cast<off_t>(3_MiB));
    EXPECT_GE(static_cast<std::uint64_t>(status_of(file).st_blocks) * 512, 3_MiB);
  }
}

TEST(Preallocate, RoundsUpToWholeTransfersAndNeverShrinks) {
  IoFile file = IoFile::create_scratch(here());
  file.preallocate(1_MiB + 1);
  EXPECT_EQ(file.size(), 1_MiB + file.alignment());
  file.preallocate(4_KiB);
  EXPECT_EQ(file.size(), 1_MiB + file.alignment());
}

TEST(Preallocate, WritesZerosWhereTheFileSystemCannotAllocate) {
  const bool ran = run_with_denied_syscall({SYS_fallocate, EOPNOTSUPP, {}}, [] {
    IoFile file = IoFile::create_scratch(here());
    file.preallocate(64_KiB);
    file.preallocate(2_MiB + 64_KiB);
    EXPECT_EQ(status_of(file).st_size, static_cast<off_t>(2_MiB + 64_KiB));
    EXPECT_GE(static_cast<std::uint64_t>(status_of(file).st_blocks) * 512, 2_MiB + 64_KiB);
  });
  if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
}

TEST(Preallocate, RefusesMoreThanIsFreeBeforeTakingIt) {
  IoFile file = IoFile::create_scratch(here());
  const std::string message = message_of<IoError>([&] { file.preallocate(1ull << 50); });
  EXPECT_THAT(message, HasSubstr("1.00 PiB"));
  EXPECT_THAT(message, HasSubstr(file.path().string()));
  EXPECT_THAT(message, HasSubstr("ENOSPC"));
  EXPECT_THAT(message, HasSubstr("are free"));
  EXPECT_EQ(file.size(), 0u);
  EXPECT_EQ(status_of(file).st_blocks, 0);
}

TEST(Preallocate, ReportsAQuotaAndLeavesTheFileAsItWas) {
  const bool ran = run_with_denied_syscall({SYS_fallocate, EDQUOT, {}}, [] {
    IoFile file = IoFile::create_scratch(here());
    const std::string message = message_of<IoError>([&] { file.preallocate(1_MiB); });
    EXPECT_THAT(message, HasSubstr("EDQUOT"));
    EXPECT_THAT(message, HasSubstr("quota"));
    EXPECT_EQ(file.size(), 0u);
    EXPECT_EQ(status_of(file).st_size, 0);
  });
  if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
}

TEST(Preallocate, RefusesSizesBeyondWhatAFileCanHave) {
  IoFile file = IoFile::create_scratch(here());
  EXPECT_THAT(message_of<IoError>([&] { file.preallocate(~std::uint64_t{0}); }),
              HasSubstr("EFBIG"));
}

}  // namespace
}  // namespace strata::aio::io_file_test
