#include "zero3/ranks/rank_watch.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

#include "zero3/ranks/signals.h"

namespace strata::zero3 {
namespace {

using namespace std::chrono_literals;

constexpr int kTag = 1;
constexpr std::size_t kUnreadMax = 4;  // letters to a rank that does not read them
constexpr auto kLastLetters = 2000ms;

enum class Kind : std::uint32_t { kHere, kFailed, kLeft };

std::string seconds(std::chrono::nanoseconds time) {
  const auto tenths = std::chrono::duration_cast<std::chrono::milliseconds>(time).count() / 100;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

}  // namespace

/// All letters have the same size.
struct RankWatch::Letter {
  Kind kind = Kind::kHere;
  std::int32_t from = 0;
  std::uint64_t number = 0;  // of the letters between these two ranks
  std::uint64_t heard = 0;   // number of the last letter from the rank that it is to
  std::uint64_t begun = 0;   // kLeft: collectives that were begun
  Failure::Kind failure = Failure::Kind::kRank;  // kFailed
  std::int32_t failed_rank = 0;
  std::array<char, 1024> text{};
};

RankWatch::RankWatch(const Options& options, Messenger& messenger, Hearer hearer)
    : options_(options),
      interval_(std::max<Clock::duration>(options.silence / 8, 1ms)),
      messenger_(messenger),
      hearer_(std::move(hearer)),
      peers_(static_cast<std::size_t>(options.size)) {
  for (Peer& peer : peers_) peer.heard_at = Clock::now();
  hearing_ = std::thread([this] { hear(); });
  telling_ = std::thread([this] { tell(); });
}

RankWatch::~RankWatch() { stop(); }

void RankWatch::stop() {
  {
    const Lock lock(mutex_);
    stop_ = true;
    if (listening_ != nullptr) listening_->abort();
  }
  changed_.notify_all();
  if (telling_.joinable()) telling_.join();
  if (hearing_.joinable()) hearing_.join();
}

void RankWatch::announce(const Failure& failure) {
  const Lock lock(mutex_);
  if (failure_) return;
  failure_ = failure;
  changed_.notify_all();
}

void RankWatch::leave(std::uint64_t begun) {
  {
    const Lock lock(mutex_);
    leaves_after_ = begun;
  }
  changed_.notify_all();
  telling_.join();
  stop();
}

// ---- hearing -----------------------------------------------------------------------------------

/// A rank that dies within a letter takes the message under way with it, which does not tell whose
/// it was. Who died is seen by those that wait for its bytes or write to it; the others are heard
/// on, and each rank dies once.
void RankWatch::hear() {
  take_no_signals();
  for (int deaths = 0;;) {
    Letter letter;
    bool has_come = false;
    try {
      has_come = hear_one(letter);
    } catch (const ConnectionLost& error) {
      {
        const Lock lock(mutex_);
        if (stop_ || leaves_after_) return;
      }
      if (++deaths < options_.size) continue;
      return hearer_.lost(options_.rank, std::string("hears no other rank: ") + error.what());
    }
    if (!has_come) return;
    take(letter);
  }
}

/// False at the end.
bool RankWatch::hear_one(Letter& letter) {
  const std::unique_ptr<Message> message =
      messenger_.receive_from_any(kTag, std::as_writable_bytes(std::span(&letter, 1)));
  {
    const Lock lock(mutex_);
    if (stop_) return false;
    listening_ = message.get();
  }
  const auto listens_no_more = [&] {
    const Lock lock(mutex_);
    listening_ = nullptr;
  };
  try {
    const bool has_come = message->wait();
    listens_no_more();
    return has_come;
  } catch (const ConnectionLost&) {
    listens_no_more();
    throw;
  }
}

void RankWatch::take(const Letter& letter) {
  if (letter.from < 0 || letter.from >= options_.size) return;
  {
    const Lock lock(mutex_);
    Peer& peer = peers_[static_cast<std::size_t>(letter.from)];
    peer.heard_at = Clock::now();
    peer.heard = letter.number;
    while (!peer.sent.empty() && peer.sent.front().letter->number <= letter.heard) {
      peer.sent.pop_front();
    }
    if (letter.kind == Kind::kLeft) peer.is_gone = true;
  }
  if (letter.kind == Kind::kLeft) hearer_.left(letter.from, letter.begun);
  if (letter.kind == Kind::kFailed) {
    const std::size_t length = ::strnlen(letter.text.data(), letter.text.size());
    hearer_.failed({letter.failure, letter.failed_rank, {letter.text.data(), length}});
  }
}

// ---- telling -----------------------------------------------------------------------------------

void RankWatch::tell() {
  take_no_signals();
  Lock lock(mutex_);
  Clock::time_point last_round = Clock::now();
  while (true) {
    changed_.wait_for(lock, interval_, [&] {
      return stop_ || leaves_after_.has_value() || (failure_.has_value() && !is_told_);
    });
    if (stop_) return;
    std::vector<int> lost;
    std::vector<int> silent;
    if (failure_) {
      if (!is_told_) {
        Letter letter{
            .kind = Kind::kFailed, .failure = failure_->kind, .failed_rank = failure_->rank};
        std::copy_n(failure_->message.data(),
                    std::min(failure_->message.size(), letter.text.size() - 1),
                    letter.text.begin());
        write_to_all(letter, lost);
        is_told_ = true;
      }
    } else if (leaves_after_) {
      write_to_all({.kind = Kind::kLeft, .begun = *leaves_after_}, lost);
    } else {
      const Clock::time_point now = Clock::now();
      // A rank that was held up itself cannot tell who was silent meanwhile.
      if (now - last_round > 3 * interval_) {
        for (Peer& peer : peers_) peer.heard_at = now;
      }
      last_round = now;
      write_to_all({.kind = Kind::kHere}, lost);
      silent = silent_ranks(now);
    }
    if (leaves_after_) break;
    if (failure_) continue;
    lock.unlock();
    for (const int rank : lost) hearer_.lost(rank, "died: its connection was closed");
    for (const int rank : silent) {
      hearer_.lost(rank, "was not heard of for " + seconds(options_.silence * 3 / 4) +
                             ": its process is stopped, or its host or the network is gone");
    }
    lock.lock();
  }
  lock.unlock();
  deliver_last_letters();
}

void RankWatch::write_to_all(const Letter& letter, std::vector<int>& lost) {
  for (int to = 0; to < options_.size; ++to) {
    Peer& peer = peers_[static_cast<std::size_t>(to)];
    if (to == options_.rank || peer.is_gone) continue;
    if (letter.kind == Kind::kHere && peer.sent.size() >= kUnreadMax) continue;
    auto own = std::make_unique<Letter>(letter);
    own->from = options_.rank;
    own->number = ++peer.written;
    own->heard = peer.heard;
    try {
      auto message = messenger_.send(to, kTag, std::as_bytes(std::span(own.get(), 1)));
      peer.sent.push_back({std::move(own), std::move(message)});
    } catch (const ConnectionLost&) {
      peer.is_gone = true;
      lost.push_back(to);
    }
  }
}

/// Letters take time too: they are sent every eighth of the silence that is allowed, and looked for
/// as often.
std::vector<int> RankWatch::silent_ranks(Clock::time_point now) const {
  std::vector<int> silent;
  for (int rank = 0; rank < options_.size; ++rank) {
    const Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (rank == options_.rank || peer.is_gone) continue;
    if (now - peer.heard_at > options_.silence * 3 / 4) silent.push_back(rank);
  }
  return silent;
}

/// The other threads' part is over: what is waited for here is used by nobody else.
void RankWatch::deliver_last_letters() {
  const Clock::time_point until = Clock::now() + kLastLetters;
  std::vector<Sent> last;
  {
    const Lock lock(mutex_);
    for (int rank = 0; rank < options_.size; ++rank) {
      Peer& peer = peers_[static_cast<std::size_t>(rank)];
      const bool reads_nothing = peer.is_gone || (failure_ && failure_->rank == rank);
      if (reads_nothing) continue;
      std::move(peer.sent.begin(), peer.sent.end(), std::back_inserter(last));
      peer.sent.clear();
    }
  }
  for (const Sent& sent : last) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    try {
      sent.message->wait_at_most(std::max(left, 1ms));
    } catch (const ConnectionLost&) {
      continue;  // it reads nothing any more
    }
  }
}

}  // namespace strata::zero3
