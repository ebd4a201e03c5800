#pragma once

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/zero3/join.h"
#include "support/shared_value.h"
#include "zero3/ranks/ranks.h"

/// \file
/// Worlds of processes: children of the test, which keeps the place where they meet, as torchrun
/// does, at a port that the system chooses. The test has no threads when it forks: another thread
/// may hold a lock of the C library's, and no child ever gets it.

namespace strata::zero3 {

/// What became of a rank.
struct RankOutcome {
  enum class Kind { kReturned, kRankFailure, kDeadline, kConfig, kUsage, kOther, kEnded };
  Kind kind = Kind::kEnded;                  ///< kEnded: its process ended, without a word
  int failed_rank = -1;                      ///< kRankFailure
  std::string text;                          ///< of the error
  bool test_failed = false;                  ///< an expectation of GoogleTest's in the body
  std::chrono::milliseconds ended_after{0};  ///< since the start of all
};

namespace process_world {

using Clock = std::chrono::steady_clock;

/// A rank's last words, where the test reads them.
struct Words {
  RankOutcome::Kind kind = RankOutcome::Kind::kEnded;
  int failed_rank = -1;
  std::array<char, 2048> text{};
  bool test_failed = false;

  void say(RankOutcome::Kind what, const char* message) {
    kind = what;
    std::strncpy(text.data(), message, text.size() - 1);
  }
};

inline void run_body(const World& world, const JoinOptions& options,
                     const std::function<void(Ranks&)>& body, Words& words) {
  using Kind = RankOutcome::Kind;
  try {
    const auto ranks = join(world, options);
    body(*ranks);
    words.kind = Kind::kReturned;
  } catch (const RankFailure& error) {
    words.failed_rank = error.rank();
    words.say(Kind::kRankFailure, error.what());
  } catch (const DeadlineExceeded& error) {
    words.say(Kind::kDeadline, error.what());
  } catch (const ConfigError& error) {
    words.say(Kind::kConfig, error.what());
  } catch (const UsageError& error) {
    words.say(Kind::kUsage, error.what());
  } catch (const std::exception& error) {
    words.say(Kind::kOther, error.what());
  }
  words.test_failed = ::testing::Test::HasFailure();
}

/// Waits for all children, a minute at most; a stopped one is ended once the others have. None is
/// left behind.
inline void wait_for_all(std::vector<pid_t> children, Clock::time_point begin,
                         std::vector<RankOutcome>& outcomes) {
  std::vector<bool> stopped(children.size());
  while (true) {
    std::size_t running = 0;
    for (std::size_t rank = 0; rank < children.size(); ++rank) {
      if (children[rank] == 0) continue;
      int status = 0;
      if (::waitpid(children[rank], &status, WNOHANG | WUNTRACED) == 0) {
        running += stopped[rank] ? 0 : 1;
      } else if (WIFSTOPPED(status)) {
        stopped[rank] = true;
      } else {
        children[rank] = 0;
        outcomes[rank].ended_after =
            std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
      }
    }
    const bool hangs = Clock::now() - begin > std::chrono::minutes(1);
    if (hangs) ADD_FAILURE() << running << " ranks hang, and are killed";
    if (running == 0 || hangs) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  for (const pid_t child : children) {
    if (child == 0) continue;
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
}

}  // namespace process_world

/// A rank and the size of its world.
using RankOfSize = std::pair<int, int>;

/// Runs `body` in a process for each of these, and returns what became of each.
inline std::vector<RankOutcome> run_processes_as(const std::vector<RankOfSize>& ranks,
                                                 const std::function<void(Ranks&)>& body,
                                                 const JoinOptions& options = {}) {
  using process_world::Words;
  const support::SharedValue<std::atomic<int>> port;
  const auto begin = process_world::Clock::now();
  std::vector<std::unique_ptr<support::SharedValue<Words>>> words;
  std::vector<pid_t> children;
  for (const auto& [rank, size] : ranks) {
    words.push_back(std::make_unique<support::SharedValue<Words>>());
    std::fflush(nullptr);
    children.push_back(::fork());
    if (children.back() < 0) throw std::runtime_error("fork failed");
    if (children.back() != 0) continue;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // no child outlives the test
    while (*port == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process_world::run_body({.rank = rank,
                             .size = size,
                             .local_rank = rank,
                             .local_size = size,
                             .address = "127.0.0.1",
                             .port = static_cast<std::uint16_t>(*port),
                             .launcher_keeps_store = true},
                            options, body, **words.back());
    std::fflush(nullptr);
    ::_exit(0);
  }
  const auto store = c10::make_intrusive<c10d::TCPStore>(
      "127.0.0.1", c10d::TCPStoreOptions{.port = 0, .isServer = true, .waitWorkers = false});
  *port = store->getPort();
  std::vector<RankOutcome> outcomes(ranks.size());
  process_world::wait_for_all(children, begin, outcomes);
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const Words& said = **words[i];
    outcomes[i].kind = said.kind;
    outcomes[i].failed_rank = said.failed_rank;
    outcomes[i].text = said.text.data();
    outcomes[i].test_failed = said.test_failed;
  }
  return outcomes;
}

/// The same for all ranks of a world.
inline std::vector<RankOutcome> run_processes(int size, const std::function<void(Ranks&)>& body,
                                              const JoinOptions& options = {}) {
  std::vector<RankOfSize> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.emplace_back(rank, size);
  return run_processes_as(ranks, body, options);
}

}  // namespace strata::zero3
