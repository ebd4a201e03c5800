#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "aio/aligned_buffer.h"
#include "strata/aio/backend.h"
#include "strata/aio/io_channel.h"

namespace strata::aio::null_backend_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

Request request_of(std::uint64_t tag) {
  return {.kind = OpKind::kRead, .fd = -1, .offset = 0, .data = nullptr, .bytes = 4096, .tag = tag};
}

TEST(NullBackend, SaysOfEveryAcceptedRequestThatItMovedWhole) {
  const auto backend = make_null_backend(4);
  std::vector<Request> requests;
  for (std::uint64_t tag = 0; tag < 6; ++tag) requests.push_back(request_of(tag));
  ASSERT_EQ(backend->enqueue(requests), 4u);
  std::array<Completion, 3> completions{};
  std::uint64_t tags = 0;
  while (const std::size_t count = backend->reap(completions, milliseconds(0))) {
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(completions[i].result, 4096);
      EXPECT_EQ(tags & (1u << completions[i].tag), 0u);
      tags |= 1u << completions[i].tag;
    }
  }
  EXPECT_EQ(tags, 0b1111u);
  EXPECT_EQ(backend->enqueue(requests), 4u);
}

TEST(NullBackend, ReturnsFromAnEmptyReapWhenWoken) {
  const auto backend = make_null_backend(1);
  std::array<Completion, 1> completions{};
  const auto begin = steady_clock::now();
  std::jthread waker([&] {
    std::this_thread::sleep_for(milliseconds(10));
    backend->wake();
  });
  EXPECT_EQ(backend->reap(completions, std::chrono::seconds(60)), 0u);
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(30));
}

TEST(NullBackend, LeavesMemoryReadIntoAsItIs) {
  IoFile file = IoFile::create_scratch(std::filesystem::current_path());
  file.preallocate(1 << 20);
  AlignedBuffer buffer(1 << 20);
  AlignedBuffer before(1 << 20);
  buffer.fill_randomly(1);
  before.fill_randomly(1);
  std::ostringstream log_text;
  Logger log(log_text);
  IoChannel channel({.block_bytes = 4096}, make_null_backend(8), log);
  ASSERT_TRUE(channel.try_submit({OpKind::kRead, &file, 0, buffer.span()}, 0));
  std::array<IoOutcome, 1> outcomes;
  ASSERT_EQ(channel.reap(outcomes, std::chrono::seconds(30)), 1u);
  EXPECT_EQ(outcomes[0].error, nullptr);
  EXPECT_EQ(channel.statistics().bytes_read, 1u << 20);
  EXPECT_TRUE(buffer == before);
}

}  // namespace
}  // namespace strata::aio::null_backend_test
