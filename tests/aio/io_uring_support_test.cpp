#include "strata/aio/io_uring_support.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>

#include "aio/denied_syscall.h"
#include "strata/aio/backend.h"
#include "strata/base/error.h"

namespace strata::aio::io_uring_support_test {
namespace {

using testing::Contains;
using testing::IsEmpty;

bool the_backend_can_be_made() {
  try {
    (void)make_io_uring_backend(1);
    return true;
  } catch (const IoError&) {
    return false;
  }
}

TEST(IoUringSupport, LacksNothingWhereTheBackendCanBeMade) {
  const IoUringSupport support = io_uring_support();
  EXPECT_EQ(support.refusal == 0 && support.missing.empty(), the_backend_can_be_made());
}

TEST(IoUringSupport, TellsTheErrorOfARefusedRing) {
  const bool ran = run_with_denied_syscall({SYS_io_uring_setup, EPERM, {}}, [] {
    const IoUringSupport support = io_uring_support();
    EXPECT_EQ(support.refusal, EPERM);
    EXPECT_THAT(support.missing, IsEmpty());
  });
  if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
}

TEST(IoUringSupport, OfAKernelThatListsNoRequestsLacksThemAll) {
  if (!the_backend_can_be_made()) GTEST_SKIP() << "io_uring is not there";
  const bool ran = run_with_denied_syscall({SYS_io_uring_register, EINVAL, {}}, [] {
    EXPECT_THAT(io_uring_support().missing, Contains("IORING_OP_READ_FIXED"));
  });
  if (!ran) GTEST_SKIP() << "the kernel takes no seccomp filter";
}

}  // namespace
}  // namespace strata::aio::io_uring_support_test
