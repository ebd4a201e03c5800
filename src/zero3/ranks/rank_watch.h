#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "zero3/ranks/failure.h"
#include "zero3/ranks/messenger.h"

namespace strata::zero3 {

/// What ranks that are processes tell one another beside their collectives: that they are there,
/// that they leave, and what ended the run. Every rank sends all others a letter now and then; one
/// that is not heard of for too long is lost, whatever became of it: killed without a word,
/// stopped, or cut off.
///
/// Two threads: one hears, one tells. They take no signals of the program.
class RankWatch {
 public:
  struct Options {
    int rank = 0;
    int size = 1;
    /// A rank that has not been heard of for so long is lost. It is noticed by then.
    std::chrono::milliseconds silence{10'000};
  };
  /// What is done when something is heard, on the watch's own threads, which hold no lock then.
  struct Hearer {
    std::function<void(const Failure&)> failed;
    std::function<void(int rank, std::uint64_t begun)> left;
    /// A rank is silent, or its connection is gone; `how` is a clause about it.
    std::function<void(int rank, const std::string& how)> lost;
  };

  /// The messenger carries nothing else, and outlives the watch.
  RankWatch(const Options& options, Messenger& messenger, Hearer hearer);
  /// Ends both threads, without a word to others.
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  /// Tells all ranks what ended the run. Returns at once; the first failure counts. Thread: any.
  void announce(const Failure& failure);
  /// Tells all ranks that this one leaves after so many collectives, unless a failure was
  /// announced, waits until the last letters have been read, two seconds at most, and ends both
  /// threads. Call once, last.
  void leave(std::uint64_t begun);

 private:
  using Clock = std::chrono::steady_clock;
  using Lock = std::unique_lock<std::mutex>;
  struct Letter;
  /// A letter on its way; it has come when a later one of the other rank says so.
  struct Sent {
    std::unique_ptr<Letter> letter;
    std::unique_ptr<Message> message;
  };
  struct Peer {
    Clock::time_point heard_at;
    std::uint64_t heard = 0;    // number of its last letter
    std::uint64_t written = 0;  // number of the last letter to it
    std::deque<Sent> sent{};
    bool is_gone = false;  // it has left, or is lost
  };

  void stop();
  void hear();
  [[nodiscard]] bool hear_one(Letter& letter);
  void tell();
  void take(const Letter& letter);
  void write_to_all(const Letter& letter, std::vector<int>& lost);
  [[nodiscard]] std::vector<int> silent_ranks(Clock::time_point now) const;
  void deliver_last_letters();

  const Options options_;
  const Clock::duration interval_;
  Messenger& messenger_;
  const Hearer hearer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Peer> peers_;  // this rank among them, unused
  std::optional<Failure> failure_;
  bool is_told_ = false;  // the failure was sent to all
  std::optional<std::uint64_t> leaves_after_;
  bool stop_ = false;
  Message* listening_ = nullptr;
  std::thread hearing_, telling_;
};

}  // namespace strata::zero3
