#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "aio/aligned_buffer.h"
#include "aio/denied_syscall.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata::aio::probe_test {
namespace {

using support::caught;
using testing::AnyOf;
using testing::HasSubstr;
using testing::StartsWith;

const Denial kNoIoUring{SYS_io_uring_setup, EPERM, {}};

class Probe : public testing::Test {
 protected:
  static std::filesystem::path here() { return std::filesystem::current_path(); }

  /// Runs `body` where each of the calls fails.
  static void run_sandboxed(const std::vector<Denial>& denials, const std::function<void()>& body) {
    std::function<void()> inner = body;
    bool ran = false;
    for (const Denial& denial : denials) {
      inner = [denial, &ran, then = inner] { ran = run_with_denied_syscall(denial, then); };
    }
    inner();
    if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
  }

  static void move_bytes(IoQueue& queue) {
    IoFile file = IoFile::create_scratch(here());
    AlignedBuffer source(64 << 10);
    AlignedBuffer target(64 << 10);
    source.fill_randomly(41);
    file.preallocate(source.span().size());
    queue.submit({OpKind::kWrite, &file, 0, source.span()}).wait();
    queue.submit({OpKind::kRead, &file, 0, target.span()}).wait();
    EXPECT_TRUE(target == source);
  }

  static bool libaio_works() {
    try {
      (void)make_libaio_backend(64);
      return true;
    } catch (const IoError&) {
      return false;
    }
  }

  std::ostringstream log_text;
  Logger log{log_text};
};

TEST_F(Probe, FallsBackToLibaioInASandboxAndSaysWhy) {
  if (!libaio_works()) GTEST_SKIP() << "no libaio here";
  run_sandboxed({kNoIoUring}, [&] {
    IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("libaio (io_uring: EPERM, "));
    EXPECT_THAT(queue.description(),
                AnyOf(HasSubstr("blocked by a sandbox; allow io_uring_setup to use it"),
                      HasSubstr("kernel.io_uring_disabled")));
    EXPECT_EQ(log_text.str(), "I/O engine: " + queue.description() + "\n");
    move_bytes(queue);
  });
}

TEST_F(Probe, FallsBackToThreadsWhenBothAreForbiddenAndSaysWhy) {
  run_sandboxed({kNoIoUring, {SYS_io_setup, EPERM, {}}}, [&] {
    IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads (io_uring: EPERM, "));
    EXPECT_THAT(queue.description(), HasSubstr(". libaio: EPERM, blocked by a sandbox; allow "
                                               "io_setup and io_submit to use it)"));
    EXPECT_EQ(log_text.str(), "I/O engine: " + queue.description() + "\n");
    move_bytes(queue);
  });
}

TEST_F(Probe, FallsBackOnAKernelWithoutIoUring) {
  run_sandboxed({{SYS_io_uring_setup, ENOSYS, {}}}, [&] {
    const IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), HasSubstr(" (io_uring: ENOSYS, not in this kernel"));
  });
}

TEST_F(Probe, FallsBackOnAKernelWithNeither) {
  run_sandboxed({{SYS_io_uring_setup, ENOSYS, {}}, {SYS_io_setup, ENOSYS, {}}}, [&] {
    const IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads (io_uring: ENOSYS, "));
    EXPECT_THAT(queue.description(), HasSubstr("libaio: ENOSYS, not in this kernel"));
  });
}

TEST_F(Probe, NamesTheSwitchWhenAllOfTheSystemsRequestsAreTaken) {
  // Acts as if fs.aio-nr had reached fs.aio-max-nr, without taking them from everybody else.
  run_sandboxed({kNoIoUring, {SYS_io_setup, EAGAIN, {}}}, [&] {
    std::string allowed;
    std::ifstream("/proc/sys/fs/aio-max-nr") >> allowed;
    const IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads ("));
    EXPECT_THAT(queue.description(), HasSubstr("libaio: EAGAIN, fs.aio-nr is at "));
    EXPECT_THAT(queue.description(),
                HasSubstr(" of fs.aio-max-nr " + allowed + "; raise the latter to use it"));
  });
}

TEST_F(Probe, FallsBackWhenTheKernelIsShortOfMemory) {
  run_sandboxed({{SYS_io_uring_setup, ENOMEM, {}}, {SYS_io_setup, ENOMEM, {}}}, [&] {
    const IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads (io_uring: ENOMEM, "));
    EXPECT_THAT(queue.description(), HasSubstr("raise ulimit -l"));
    EXPECT_THAT(queue.description(), HasSubstr("libaio: ENOMEM, "));
  });
}

TEST_F(Probe, FallsBackWhenAnEngineIsGrantedButTransfersAreNot) {
  run_sandboxed({{SYS_io_uring_enter, EPERM, {}}, {SYS_io_submit, EPERM, {}}}, [&] {
    IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads (io_uring: EPERM, "));
    EXPECT_THAT(queue.description(), HasSubstr("libaio: EPERM, "));
    move_bytes(queue);
  });
}

TEST_F(Probe, PassesOverLibaioWhereItWouldMakeTransfersOneByOne) {
  run_sandboxed({kNoIoUring, {SYS_fcntl, EINVAL, F_SETFL}}, [&] {
    IoQueue queue({}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("threads (io_uring: EPERM, "));
    EXPECT_THAT(queue.description(), HasSubstr("libaio: this file system takes no direct"));
    move_bytes(queue);
  });
}

TEST_F(Probe, GivesLibaioToWhoAsksForItThereAndSaysWhatIsLost) {
  if (!libaio_works()) GTEST_SKIP() << "no libaio here";
  run_sandboxed({{SYS_fcntl, EINVAL, F_SETFL}}, [&] {
    IoQueue queue({.backend = IoBackend::kLibaio}, here(), log);
    EXPECT_THAT(queue.description(), StartsWith("libaio (this file system takes no direct"));
    move_bytes(queue);
  });
}

TEST_F(Probe, ThrowsWhenTheEngineAskedForByNameIsNotThere) {
  run_sandboxed({kNoIoUring, {SYS_io_setup, EAGAIN, {}}}, [&] {
    struct Refusal {
      IoBackend backend;
      int code;
      std::string words;
    };
    for (const Refusal& refusal :
         {Refusal{IoBackend::kIoUring, EPERM, "io_uring: EPERM, "},
          Refusal{IoBackend::kLibaio, EAGAIN, "libaio: EAGAIN, fs.aio-nr is at "}}) {
      const auto error =
          caught<IoError>([&] { const IoQueue queue({.backend = refusal.backend}, here(), log); });
      ASSERT_TRUE(error);
      EXPECT_EQ(error->code(), refusal.code);
      EXPECT_THAT(error->what(),
                  HasSubstr("I/O engine for " + here().string() + ": " + refusal.words));
    }
  });
}

TEST_F(Probe, TakesThreadsWhenTheyAreAskedForWithoutTalkingOfIoUring) {
  const IoQueue queue({.backend = IoBackend::kThreads}, here(), log);
  EXPECT_EQ(queue.description(), "threads");
}

TEST_F(Probe, TakesLibaioWhenItIsAskedForWithoutTalkingOfIoUring) {
  if (!libaio_works()) GTEST_SKIP() << "no libaio here";
  const IoQueue queue({.backend = IoBackend::kLibaio}, here(), log);
  EXPECT_EQ(queue.description(), "libaio");
}

TEST_F(Probe, TakesTheOneThatMovesNothingAtItsWord) {
  const IoQueue queue({.backend = IoBackend::kNull}, here(), log);
  EXPECT_EQ(queue.description(), "null");
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
  const auto error = caught<IoError>([&] { const IoQueue queue({}, "/nonexistent", log); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ENOENT);
  EXPECT_THAT(error->what(), HasSubstr("/nonexistent"));
}

}  // namespace
}  // namespace strata::aio::probe_test
