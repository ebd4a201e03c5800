#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <filesystem>
#include <sstream>

#include "aio/aligned_buffer.h"
#include "aio/denied_syscall.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::StartsWith;

class Probe : public testing::Test {
 protected:
  static std::filesystem::path here() { return std::filesystem::current_path(); }

  /// Runs `body` where io_uring_setup fails with `code`.
  static void run_sandboxed(int code, const std::function<void()>& body) {
    if (!run_with_denied_syscall({SYS_io_uring_setup, code, {}}, body)) {
      GTEST_SKIP() << "the kernel takes no seccomp filter";
    }
  }

  std::ostringstream log_text;
  Logger log{log_text};
};

TEST_F(Probe, FallsBackToThreadsInASandboxAndSaysWhy) {
  run_sandboxed(EPERM, [&] {
    IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads (io_uring: EPERM, "));
    EXPECT_THAT(queue.description(),
                AnyOf(HasSubstr("blocked by a sandbox; allow io_uring_setup to use it"),
                      HasSubstr("kernel.io_uring_disabled")));
    EXPECT_THAT(log_text.str(), HasSubstr(queue.description()));

    IoFile file = IoFile::create_scratch(here());
    AlignedBuffer buffer(64 << 10);
    file.preallocate(buffer.span().size());
    queue.submit({OpKind::kWrite, &file, 0, buffer.span()}).wait();
  });
}

TEST_F(Probe, FallsBackToThreadsOnAKernelWithoutIoUring) {
  run_sandboxed(ENOSYS, [&] {
    const IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads (io_uring: ENOSYS, not in this kernel"));
  });
}

TEST_F(Probe, ThrowsWhenIoUringWasAskedForByName) {
  run_sandboxed(EPERM, [&] {
    EXPECT_THROW(IoQueue({.backend = BackendKind::kIoUring}, here(), log), IoError);
  });
}

TEST_F(Probe, FallsBackWhenTheRingIsGrantedButTransfersAreNot) {
  const bool ran = run_with_denied_syscall({SYS_io_uring_enter, EPERM, {}}, [&] {
    const IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads (io_uring: "));
  });
  if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
}

TEST_F(Probe, TakesThreadsWhenTheyAreAskedForWithoutTalkingOfIoUring) {
  const IoQueue queue({.backend = BackendKind::kThreads}, here(), log);
  EXPECT_EQ(queue.description(), "threads");
}

TEST_F(Probe, ChoosesIoUringWhereTheKernelGrantsIt) {
  try {
    (void)make_io_uring_backend(1);
  } catch (const IoError& error) {
    GTEST_SKIP() << error.what();
  }
  const IoQueue queue({}, here(), log);
  EXPECT_EQ(queue.description(), "io_uring");
  EXPECT_EQ(log_text.str(), "I/O engine: io_uring\n");
}

TEST_F(Probe, NamesADirectoryThatCannotBeUsed) {
  try {
    const IoQueue queue({}, "/nonexistent", log);
    FAIL() << "a queue over nothing";
  } catch (const IoError& error) {
    EXPECT_EQ(error.code(), ENOENT);
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent"));
  }
}

}  // namespace
}  // namespace strata::aio
