#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "aio/aligned_buffer.h"
#include "strata/aio/backend.h"
#include "strata/aio/io_file.h"
#include "strata/base/error.h"

/// \file
/// The law of `Backend` itself, without the queue above it. To hold another engine to it, include
/// this file and instantiate BackendLaw with it, and BackendTransfers too when it moves bytes.

namespace strata::aio {

struct BackendCase {
  std::string name;
  std::function<std::unique_ptr<Backend>(std::uint32_t depth)> make;
};

inline void PrintTo(const BackendCase& test, std::ostream* out) { *out << test.name; }

class BackendLaw : public testing::TestWithParam<BackendCase> {
 protected:
  static constexpr std::uint32_t kDepth = 8;
  static constexpr std::uint32_t kBytes = 64 << 10;
  static constexpr std::chrono::milliseconds kPause{20};
  static constexpr std::chrono::seconds kPatience{30};  // far beyond what a busy machine takes

  void SetUp() override {
    try {
      backend = GetParam().make(kDepth);
    } catch (const IoError& error) {
      GTEST_SKIP() << error.what();
    }
    file.preallocate(4 * kDepth * kBytes);
  }

  /// The n-th block of the file and of the buffer.
  Request request(OpKind kind, std::uint64_t n, std::uint64_t tag) {
    return {.kind = kind,
            .fd = file.fd(),
            .offset = n * kBytes,
            .data = buffer.span().data() + n * kBytes,
            .bytes = kBytes,
            .tag = tag};
  }
  std::vector<Request> requests(OpKind kind, std::uint64_t count) {
    std::vector<Request> all;
    for (std::uint64_t n = 0; n < count; ++n) all.push_back(request(kind, n, n));
    return all;
  }

  /// Completions until `count` are there or patience ends.
  std::vector<Completion> reap_all(std::size_t count, std::size_t at_once = kDepth) {
    std::vector<Completion> all;
    std::vector<Completion> some(at_once);
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    while (all.size() < count && std::chrono::steady_clock::now() < limit) {
      const std::size_t stored = backend->reap(some, std::chrono::seconds(1));
      all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(stored));
    }
    return all;
  }
  static std::multiset<std::uint64_t> tags_of(const std::vector<Completion>& completions) {
    std::multiset<std::uint64_t> tags;
    for (const Completion& completion : completions) tags.insert(completion.tag);
    return tags;
  }
  std::size_t reap_nothing() {
    std::vector<Completion> some(kDepth);
    return backend->reap(some, kPause);
  }

  std::unique_ptr<Backend> backend;
  IoFile file = IoFile::create_scratch(std::filesystem::current_path());
  AlignedBuffer buffer{4 * kDepth * kBytes};
};

TEST_P(BackendLaw, WhatWasAcceptedComesBackExactlyOnce) {
  std::mt19937_64 random(21);
  std::uint64_t next_tag = 0;
  std::set<std::uint64_t> out;
  std::vector<Completion> some(kDepth);
  const auto limit = std::chrono::steady_clock::now() + kPatience;
  while ((next_tag < 500 || !out.empty()) && std::chrono::steady_clock::now() < limit) {
    std::vector<Request> batch;
    for (std::uint64_t n = next_tag < 500 ? random() % (2 * kDepth) : 0; n > 0; --n) {
      // Writes: two at a time may be of the same memory.
      batch.push_back(request(OpKind::kWrite, n, next_tag + batch.size()));
    }
    const std::size_t accepted = backend->enqueue(batch);
    ASSERT_LE(out.size() + accepted, kDepth);
    for (std::size_t i = 0; i < accepted; ++i) out.insert(next_tag++);
    const std::size_t stored = backend->reap(some, std::chrono::milliseconds(1));
    for (std::size_t i = 0; i < stored; ++i) {
      ASSERT_EQ(out.erase(some[i].tag), 1u) << "tag " << some[i].tag << " was not out";
    }
  }
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(reap_nothing(), 0u);
}

TEST_P(BackendLaw, WhatWasNotAcceptedNeverComesBack) {
  const std::vector<Request> all = requests(OpKind::kRead, 3 * kDepth);
  const std::size_t accepted = backend->enqueue(all);
  EXPECT_EQ(accepted, kDepth);
  EXPECT_EQ(backend->enqueue(std::span(all).subspan(accepted)), 0u);
  std::multiset<std::uint64_t> prefix;
  for (std::uint64_t tag = 0; tag < accepted; ++tag) prefix.insert(tag);
  EXPECT_EQ(tags_of(reap_all(accepted)), prefix);
  EXPECT_EQ(reap_nothing(), 0u);
}

TEST_P(BackendLaw, CompletionsWaitForAReapThatHasRoomForThem) {
  ASSERT_EQ(backend->enqueue(requests(OpKind::kRead, kDepth)), kDepth);
  std::this_thread::sleep_for(kPause);
  EXPECT_EQ(tags_of(reap_all(kDepth, 1)).size(), kDepth);
  EXPECT_EQ(backend->enqueue(requests(OpKind::kRead, kDepth)), kDepth);
  EXPECT_EQ(tags_of(reap_all(kDepth, 3)).size(), kDepth);
}

TEST_P(BackendLaw, WhatIsDroppedComesBackOnceToo) {
  for (const std::uint64_t count : {1u, 7u, kDepth}) {
    ASSERT_EQ(backend->enqueue(requests(OpKind::kWrite, count)), count);
    backend->drop_unstarted();
    const std::vector<Completion> completions = reap_all(count);
    std::multiset<std::uint64_t> tags;
    for (std::uint64_t tag = 0; tag < count; ++tag) tags.insert(tag);
    EXPECT_EQ(tags_of(completions), tags);
    for (const Completion& completion : completions) {
      EXPECT_TRUE(completion.result == kBytes || completion.result == -ECANCELED)
          << completion.result;
    }
  }
  EXPECT_EQ(reap_nothing(), 0u);
}

TEST_P(BackendLaw, ReapOfNothingEndsWithItsTimeout) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(reap_nothing(), 0u);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kPatience);
}

TEST_P(BackendLaw, WakeEndsTheReapInProgress) {
  std::vector<Completion> some(kDepth);
  for (int round = 0; round < 20; ++round) {
    std::jthread waker([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(round % 4));
      backend->wake();
    });
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(backend->reap(some, 2 * kPatience), 0u);
    ASSERT_LT(std::chrono::steady_clock::now() - begin, kPatience);
  }
}

TEST_P(BackendLaw, WakeBeforeAReapIsNotLost) {
  std::vector<Completion> some(kDepth);
  for (int round = 0; round < 3; ++round) {
    for (int wakes = 0; wakes <= round; ++wakes) std::jthread([&] { backend->wake(); });
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(backend->reap(some, 2 * kPatience), 0u);
    ASSERT_LT(std::chrono::steady_clock::now() - begin, kPatience);
  }
}

TEST_P(BackendLaw, WakesAmongTransfersCostNoCompletion) {
  std::jthread waker([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      backend->wake();
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(backend->enqueue(requests(OpKind::kRead, kDepth)), kDepth);
    ASSERT_EQ(tags_of(reap_all(kDepth)).size(), kDepth);
  }
}

TEST_P(BackendLaw, EnginesOfSeveralThreadsComeAndGoWithoutKnowingOfEachOther) {
  constexpr int kThreads = 2;
  constexpr int kRounds = 30;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::vector<Completion> some(1);
      const auto block = static_cast<std::uint64_t>(thread);
      for (int round = 0; round < kRounds; ++round) {
        const std::unique_ptr<Backend> own = GetParam().make(1);
        const Request asked = request(OpKind::kRead, block, block);
        ASSERT_EQ(own->enqueue({&asked, 1}), 1u);
        ASSERT_EQ(own->reap(some, kPatience), 1u);
        ASSERT_EQ(some[0].tag, block);
      }
    });
  }
}

class BackendTransfers : public BackendLaw {};

TEST_P(BackendTransfers, ResultsAreWhatBecameOfTheBytes) {
  AlignedBuffer expected(kDepth * kBytes);
  expected.fill_randomly(22);
  std::ranges::copy(expected.span(), buffer.span().begin());
  for (const OpKind kind : {OpKind::kWrite, OpKind::kRead}) {
    ASSERT_EQ(backend->enqueue(requests(kind, kDepth)), kDepth);
    for (const Completion& completion : reap_all(kDepth)) EXPECT_EQ(completion.result, kBytes);
    if (kind == OpKind::kWrite) buffer.fill(std::byte{0});
  }
  EXPECT_TRUE(std::ranges::equal(buffer.span(0, kDepth * kBytes), expected.span()));
}

TEST_P(BackendTransfers, WhatIsDroppedMovesNothing) {
  buffer.fill(std::byte{0x5a});
  ASSERT_EQ(backend->enqueue(requests(OpKind::kRead, 4)), 4u);
  backend->drop_unstarted();
  for (const Completion& completion : reap_all(4)) {
    if (completion.result != -ECANCELED) continue;
    const auto block = buffer.span(completion.tag * kBytes, kBytes);
    EXPECT_TRUE(std::ranges::all_of(block, [](std::byte byte) { return byte == std::byte{0x5a}; }));
  }
  ASSERT_EQ(backend->enqueue(requests(OpKind::kRead, kDepth)), kDepth);
  for (const Completion& completion : reap_all(kDepth)) EXPECT_EQ(completion.result, kBytes);
}

TEST_P(BackendTransfers, ARequestThatCannotBeMadeIsACompletionAndNotTheEndOfTheEngine) {
  std::vector<Request> all = requests(OpKind::kRead, kDepth);
  all[0].fd = all[3].fd = all[kDepth - 1].fd = 1 << 20;  // not open
  ASSERT_EQ(backend->enqueue(all), kDepth);
  for (const Completion& completion : reap_all(kDepth)) {
    const bool bad = all[completion.tag].fd != file.fd();
    EXPECT_EQ(completion.result, bad ? -EBADF : std::int64_t{kBytes});
  }
  EXPECT_EQ(reap_nothing(), 0u);
}

}  // namespace strata::aio
