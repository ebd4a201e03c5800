#include <liburing.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <array>
#include <thread>
#include <vector>

#include "aio/denied_syscall.h"
#include "aio/scripted_queue_fixture.h"
#include "strata/aio/io_channel.h"

namespace strata::aio::registration_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using IoQueueRegistration = ScriptedQueue;

TEST_F(IoQueueRegistration, TellsTheBackendOnItsOwnThreadAndForgetsWhenDestroyed) {
  start();
  {
    const IoRegistration of_memory = queue->register_memory(buffer.span());
    const IoRegistration of_file = queue->register_file(file);
    EXPECT_EQ(of_memory.refusal(), "");
    EXPECT_EQ(of_file.refusal(), "");
    queue->submit(read_of(0, 4)).wait();
  }
  EXPECT_THAT(script.registrations(), ElementsAre("+memory", "+file", "-file", "-memory"));
  EXPECT_EQ(script.threads_seen(), 1u);
}

TEST_F(IoQueueRegistration, ForgetsOnceHoweverOftenItIsMoved) {
  start();
  {
    IoRegistration first = queue->register_memory(buffer.span(0, kBlockBytes));
    IoRegistration second = std::move(first);
    second = queue->register_file(file);
    EXPECT_THAT(script.registrations(), ElementsAre("+memory", "+file", "-memory"));
  }
  EXPECT_THAT(script.registrations(), ElementsAre("+memory", "+file", "-memory", "-file"));
}

TEST_F(IoQueueRegistration, SaysWhyItWasRefusedAndHasNothingToForget) {
  script.refusal = "not today";
  start();
  { EXPECT_EQ(queue->register_memory(buffer.span()).refusal(), "not today"); }
  EXPECT_THAT(script.registrations(), ElementsAre("+memory"));
  queue->submit(read_of(0, 4)).wait();
}

TEST_F(IoQueueRegistration, DoesNotWaitForTransfersInFlight) {
  script.otherwise = Fault::stuck();
  start();
  const IoTicket ticket = queue->submit(read_of(0, options.depth));
  script.wait_for_accepted(options.depth);
  { EXPECT_EQ(queue->register_file(file).refusal(), ""); }
  EXPECT_FALSE(ticket.done());
  script.release_held();
}

TEST_F(IoQueueRegistration, ServesManyCallersAtOnce) {
  start();
  {
    std::vector<std::jthread> callers;
    for (std::size_t i = 0; i < 4; ++i) {
      callers.emplace_back([&, i] {
        for (int round = 0; round < 20; ++round) {
          const IoRegistration registered =
              queue->register_memory(buffer.span(i * kBlockBytes, kBlockBytes));
          EXPECT_EQ(registered.refusal(), "");
          queue->submit(read_of(i, 1)).wait();
        }
      });
    }
  }
  EXPECT_EQ(script.registrations().size(), 4u * 20 * 2);
}

TEST_F(IoQueueRegistration, IsRefusedByAQueueThatHasBrokenDownAndOutlivesIt) {
  options.warn_after = options.fail_after = std::chrono::milliseconds(20);
  script.otherwise = Fault::stuck();
  start();
  const IoRegistration before = queue->register_file(file);
  IoTicket ticket = queue->submit(read_of(0, 1));
  EXPECT_THROW(ticket.wait(), DeadlineExceeded);
  EXPECT_THAT(queue->register_memory(buffer.span()).refusal(), HasSubstr("accepts nothing more"));
  queue.reset();
}

TEST_F(IoQueueRegistration, IsDoneAtOnceByAChannel) {
  IoChannel channel(options, make_backend(), log);
  {
    const IoRegistration of_file = channel.register_file(file);
    const IoRegistration of_memory = channel.register_memory(buffer.span());
    EXPECT_EQ(of_file.refusal(), "");
    EXPECT_EQ(of_memory.refusal(), "");
  }
  EXPECT_THAT(script.registrations(), ElementsAre("+file", "+memory", "-memory", "-file"));
}

/// Answers of io_uring in places that do not let it register anything. Transfers work all the
/// same.
class IoUringRefusal : public ScriptedQueue {
 protected:
  void SetUp() override {
    ScriptedQueue::SetUp();
    try {
      (void)make_io_uring_backend(1);
    } catch (const IoError& error) {
      GTEST_SKIP() << error.what();
    }
  }

  struct Answer {
    std::string of_memory;
    std::string of_file;
    bool bytes_arrived;
  };
  /// Prepares the buffer and the file for a new queue over io_uring, and reads a block.
  Answer ask() {
    IoQueue ring(options, make_io_uring_backend(4), log);
    const IoRegistration of_memory = ring.register_memory(buffer.span());
    const IoRegistration of_file = ring.register_file(file);
    ring.submit(read_of(1, 1)).wait();
    return {of_memory.refusal(), of_file.refusal(), block_arrived(1)};
  }
  /// Does what `ask` does, where io_uring_register fails with `code` when called for `opcode`.
  Answer ask_without(std::uint32_t opcode, int code) {
    Answer answer{"the kernel takes no seccomp filter", "", false};
    (void)run_with_denied_syscall({SYS_io_uring_register, code, opcode}, [&] { answer = ask(); });
    return answer;
  }
};

TEST_F(IoUringRefusal, NamesTheKernelThatRegistersBuffers) {
  const Answer answer = ask_without(IORING_REGISTER_BUFFERS2, EINVAL);
  EXPECT_THAT(answer.of_memory, AllOf(HasSubstr("EINVAL"), HasSubstr("Linux 5.19")));
  EXPECT_TRUE(answer.bytes_arrived);
}

TEST_F(IoUringRefusal, NamesTheKernelThatRegistersFiles) {
  const Answer answer = ask_without(IORING_REGISTER_FILES2, EINVAL);
  EXPECT_THAT(answer.of_file, AllOf(HasSubstr("EINVAL"), HasSubstr("Linux 5.19")));
  EXPECT_TRUE(answer.bytes_arrived);
}

TEST_F(IoUringRefusal, NamesTheLimitOnLockedMemory) {
  const Answer answer = ask_without(IORING_REGISTER_BUFFERS_UPDATE, ENOMEM);
  EXPECT_THAT(answer.of_memory, AllOf(HasSubstr("ENOMEM"), HasSubstr("1.00 MiB")));
  EXPECT_TRUE(answer.bytes_arrived);
}

/// Makes the calling thread an ordinary one with regard to locked memory. False if it cannot be.
bool give_up_the_right_to_lock_memory() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return false;
  sets[0].effective &= ~(1u << CAP_IPC_LOCK);
  return ::syscall(SYS_capset, &header, sets.data()) == 0;
}

TEST_F(IoUringRefusal, ComesFromARealLimitOnLockedMemoryToo) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &before), 0);
  rlimit lowered = before;
  lowered.rlim_cur = std::min<rlim_t>(before.rlim_max, 64 << 10);
  Answer answer;
  bool is_ordinary = false;
  std::thread([&] {  // capabilities are a thread's
    is_ordinary = give_up_the_right_to_lock_memory();
    ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &lowered), 0);
    answer = ask();
    ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &before), 0);
  })
      .join();
  if (!is_ordinary) GTEST_SKIP() << "the right to lock memory cannot be given up here";
  EXPECT_TRUE(answer.bytes_arrived);
  if (answer.of_memory.find("5.19") != std::string::npos) {
    GTEST_SKIP() << answer.of_memory;
  }
  EXPECT_THAT(answer.of_memory, AllOf(HasSubstr("ENOMEM"), HasSubstr("ulimit -l")));
}

TEST_F(IoUringRefusal, OfMemoryThatIsNotMappedSaysSo) {
  IoQueue ring(options, make_io_uring_backend(4), log);
  void* const gone = ::mmap(nullptr, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(gone, MAP_FAILED);
  ::munmap(gone, 1 << 20);
  const IoRegistration refused = ring.register_memory({static_cast<std::byte*>(gone), 1 << 20});
  if (refused.refusal().find("5.19") != std::string::npos) GTEST_SKIP() << refused.refusal();
  EXPECT_THAT(refused.refusal(), AllOf(HasSubstr("EFAULT"), HasSubstr("must be mapped")));
  const IoRegistration good = ring.register_memory(buffer.span());
  EXPECT_THAT(good.refusal(), IsEmpty());
}

}  // namespace
}  // namespace strata::aio::registration_test
