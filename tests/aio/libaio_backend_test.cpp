#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <sstream>
#include <thread>
#include <vector>

#include "aio/aligned_buffer.h"
#include "aio/scripted_libaio.h"
#include "strata/aio/backend.h"
#include "strata/aio/io_file.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata::aio::libaio_backend_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using support::caught;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class LibaioBackendTest : public testing::Test {
 protected:
  static constexpr std::uint32_t kDepth = 8;
  static constexpr std::uint32_t kBytes = 16 << 10;

  void SetUp() override {
    try {
      backend = make_libaio_backend(kDepth);
    } catch (const IoError& error) {
      GTEST_SKIP() << error.what();
    }
    file.preallocate(kDepth * kBytes);
    script.submits = script.getevents = 0;
  }

  std::vector<Request> reads(std::uint64_t first, std::uint64_t count) {
    std::vector<Request> all;
    for (std::uint64_t tag = first; tag < first + count; ++tag) {
      const std::uint64_t at = tag % kDepth * kBytes;
      all.push_back({OpKind::kRead, file.fd(), at, buffer.span().data() + at, kBytes, tag});
    }
    return all;
  }

  std::vector<Completion> reap(std::chrono::nanoseconds timeout = milliseconds(200)) {
    std::vector<Completion> some(kDepth);
    some.resize(backend->reap(some, timeout));
    return some;
  }
  /// Everything that comes until nothing does.
  std::vector<std::uint64_t> reap_tags() {
    std::vector<std::uint64_t> tags;
    for (auto some = reap(); !some.empty(); some = reap()) {
      for (const Completion& completion : some) {
        EXPECT_EQ(completion.result, kBytes);
        tags.push_back(completion.tag);
      }
    }
    return tags;
  }

  LibaioScript& script = new_libaio_script();
  IoFile file = IoFile::create_scratch(std::filesystem::current_path());
  AlignedBuffer buffer{kDepth * kBytes};
  std::unique_ptr<Backend> backend;
};

TEST_F(LibaioBackendTest, SubmitsABatchWithOneCallAndReapsItWithAnother) {
  for (int turn = 1; turn <= 3; ++turn) {
    ASSERT_EQ(backend->enqueue(reads(0, 1)), 1u);
    EXPECT_THAT(reap(seconds(30)), SizeIs(1));
    EXPECT_EQ(script.submits, turn);
    EXPECT_EQ(script.getevents, turn);
  }
  ASSERT_EQ(backend->enqueue(reads(0, kDepth)), kDepth);
  EXPECT_EQ(script.submits, 4);
  EXPECT_THAT(reap_tags(), SizeIs(kDepth));
}

TEST_F(LibaioBackendTest, AsksAgainForWhatAPartialSubmissionLeft) {
  script.submit_answers = {3, 1};
  EXPECT_EQ(backend->enqueue(reads(0, kDepth)), kDepth);
  EXPECT_EQ(script.submits, 3);
  EXPECT_THAT(reap_tags(), UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST_F(LibaioBackendTest, AcceptsThePrefixBeforeTheKernelSaysNotNow) {
  for (const int refusal : {-EAGAIN, -ENOMEM, 0}) {
    script.submit_answers = {2, refusal};
    EXPECT_EQ(backend->enqueue(reads(0, 5)), 2u);
    EXPECT_THAT(reap_tags(), UnorderedElementsAre(0, 1));
    EXPECT_EQ(backend->enqueue(reads(2, 3)), 3u);
    EXPECT_THAT(reap_tags(), UnorderedElementsAre(2, 3, 4));
  }
}

TEST_F(LibaioBackendTest, AcceptsNothingWhileTheKernelSaysNotNow) {
  script.submit_answers = {-EAGAIN, -EAGAIN};
  EXPECT_EQ(backend->enqueue(reads(0, 5)), 0u);
  EXPECT_EQ(backend->enqueue(reads(0, 5)), 0u);
  EXPECT_THAT(reap_tags(), IsEmpty());
  EXPECT_EQ(backend->enqueue(reads(0, 5)), 5u);
  EXPECT_THAT(reap_tags(), SizeIs(5));
}

TEST_F(LibaioBackendTest, IsNotDisturbedBySignals) {
  script.submit_answers = {-EINTR, 2, -EINTR};
  EXPECT_EQ(backend->enqueue(reads(0, 4)), 4u);
  script.getevents_answers = {-EINTR};
  EXPECT_THAT(reap(), IsEmpty());
  EXPECT_THAT(reap_tags(), SizeIs(4));
}

TEST_F(LibaioBackendTest, CompletesARequestThatTheKernelRefusesWithTheReason) {
  script.submit_answers = {2, -EBADF};
  EXPECT_EQ(backend->enqueue(reads(0, 4)), 4u);
  std::vector<Completion> all;
  for (auto some = reap(); !some.empty(); some = reap()) {
    all.insert(all.end(), some.begin(), some.end());
  }
  ASSERT_THAT(all, SizeIs(4));
  for (const Completion& completion : all) {
    EXPECT_EQ(completion.result, completion.tag == 2 ? -EBADF : std::int64_t{kBytes});
  }
}

TEST_F(LibaioBackendTest, ThrowsWhenASandboxTakesTheEngineItselfAway) {
  for (const int code : {EPERM, ENOSYS}) {
    script.submit_answers = {-code};
    const auto error = caught<IoError>([&] { (void)backend->enqueue(reads(0, 4)); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), code);
  }
  // Requests accepted before are not lost by it.
  script.submit_answers = {2, -EPERM};
  EXPECT_EQ(backend->enqueue(reads(0, 4)), 2u);
  EXPECT_THAT(reap_tags(), UnorderedElementsAre(0, 1));
  script.getevents_answers = {-EINVAL};
  EXPECT_THROW((void)reap(), IoError);
}

TEST_F(LibaioBackendTest, ReadsBothResultsOfACompletion) {
  for (const auto& [second, expected] :
       {std::pair{0L, std::int64_t{kBytes}}, std::pair{-long{EIO}, -std::int64_t{EIO}},
        std::pair{7L, -std::int64_t{EIO}}}) {
    script.res2 = second;
    ASSERT_EQ(backend->enqueue(reads(0, 1)), 1u);
    const std::vector<Completion> completions = reap(seconds(30));
    ASSERT_THAT(completions, SizeIs(1));
    EXPECT_EQ(completions[0].result, expected);
  }
}

TEST_F(LibaioBackendTest, BringsTheKernelsOwnNegativeResult) {
  std::vector<Request> nowhere = reads(0, 1);
  nowhere[0].data = nullptr;
  ASSERT_EQ(backend->enqueue(nowhere), 1u);
  const std::vector<Completion> completions = reap(seconds(30));
  ASSERT_THAT(completions, SizeIs(1));
  EXPECT_EQ(completions[0].result, -EFAULT);
}

TEST_F(LibaioBackendTest, PaysForAWakeOnlyWithTheNextSubmission) {
  backend->wake();
  EXPECT_THAT(reap(seconds(30)), IsEmpty());
  EXPECT_EQ(script.submits, 0);
  ASSERT_EQ(backend->enqueue(reads(0, 2)), 2u);
  EXPECT_EQ(script.submits, 1);
  EXPECT_THAT(reap_tags(), SizeIs(2));
  EXPECT_EQ(script.submits, 1);
}

TEST_F(LibaioBackendTest, HearsAWakeThoughTheKernelRefusesToWatchForItAtFirst) {
  backend->wake();
  EXPECT_THAT(reap(seconds(30)), IsEmpty());
  script.submit_answers = {-EAGAIN, -EAGAIN, -EAGAIN};
  const auto begin = std::chrono::steady_clock::now();
  std::jthread waker([&] {
    std::this_thread::sleep_for(milliseconds(20));
    backend->wake();
  });
  // Short waits, until the kernel takes the request; then the wake.
  while (script.submits < 4) EXPECT_THAT(reap(seconds(60)), IsEmpty());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(30));
}

TEST_F(LibaioBackendTest, IsNotHeldUpByRequestsThatAreStillOutAtItsEnd) {
  // Out for the backend, which has not reaped them; done for the kernel, so that none touches
  // memory that is gone.
  const int zeros = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  std::vector<Request> all = reads(0, 2);
  all[0].fd = all[1].fd = zeros;
  ASSERT_EQ(backend->enqueue(all), 2u);
  backend.reset();
  EXPECT_THAT(script.destroyed, IsEmpty()) << "io_destroy waits for what may never come";
  ::close(zeros);
}

TEST_F(LibaioBackendTest, GivesItsContextBackWhenEverythingIsHome) {
  ASSERT_EQ(backend->enqueue(reads(0, 2)), 2u);
  EXPECT_THAT(reap_tags(), SizeIs(2));
  backend.reset();
  EXPECT_THAT(script.destroyed, SizeIs(1));
}

TEST_F(LibaioBackendTest, UnderAQueueMovesEveryByteAcrossPartialAndRefusedSubmissions) {
  std::ostringstream log_text;
  Logger log(log_text);
  AlignedBuffer source(kDepth * kBytes);
  source.fill_randomly(61);
  for (int i = 0; i < 20; ++i)
    script.submit_answers.insert(script.submit_answers.end(), {1, -EAGAIN, 2, -EINTR});
  IoQueue queue({.block_bytes = kBytes / 4, .depth = kDepth}, std::move(backend), log);
  queue.submit({OpKind::kWrite, &file, 0, source.span()}).wait();
  queue.submit({OpKind::kRead, &file, 0, buffer.span()}).wait();
  EXPECT_TRUE(buffer == source);
}

}  // namespace
}  // namespace strata::aio::libaio_backend_test
