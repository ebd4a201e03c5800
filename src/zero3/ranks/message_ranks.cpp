#include "zero3/ranks/message_ranks.h"

#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "zero3/ranks/failure.h"
#include "zero3/ranks/rank_watch.h"
#include "zero3/ranks/signals.h"

namespace strata::zero3 {
namespace {

using namespace std::chrono_literals;

constexpr int kHeaderTag = 1;
constexpr int kBytesTag = 2;
/// A rank whose connection is closed may have told why before: what it told comes meanwhile.
constexpr auto kLastWords = 500ms;

/// What a rank tells of the collective that it has come to.
struct Header {
  std::uint64_t number = 0;
  std::uint64_t send_bytes = 0, receive_bytes = 0;
  CollectiveKind kind = CollectiveKind::kBarrier;
  std::array<std::uint8_t, 7> unused{};

  bool operator==(const Header&) const = default;
};

/// One collective of this rank.
struct MessageMeeting {
  std::uint64_t number;
  CollectiveCall call;
  bool moved = false;
};

Header header_of(const MessageMeeting& meeting) {
  return {.number = meeting.number,
          .send_bytes = meeting.call.send.size(),
          .receive_bytes = meeting.call.receive.size(),
          .kind = meeting.call.kind};
}

/// Text such as "collective 7 (all_gather of 2 x 1024 bytes)".
std::string name_of(const MessageMeeting& meeting, int size) {
  return "collective " + std::to_string(meeting.number) + " (" + describe(meeting.call, size) + ")";
}

std::string name_of(const Header& header, int size) {
  const auto ranks = static_cast<std::uint64_t>(size);
  std::string text(name_of(header.kind));
  if (header.kind == CollectiveKind::kBarrier) return text;
  return text + " of " + std::to_string(size) + " x " +
         std::to_string(header.receive_bytes / ranks) + " bytes";
}

std::string rank_name(int rank) { return "rank " + std::to_string(rank); }

/// The run has ended while a message was waited for.
struct Ended {};

/// A rank's connection was lost.
struct PeerLost {
  int rank;
  std::string how;
};

}  // namespace

/// What collectives share, this rank's end of them. One mutex guards it.
class MessageRanks::Exchange {
 public:
  Exchange(const Options& options, std::unique_ptr<Messenger> data,
           std::unique_ptr<Messenger> control)
      : options_(options),
        data_(std::move(data)),
        control_(std::move(control)),
        left_(static_cast<std::size_t>(options.size)) {
    const Lock lock(mutex_);  // what the watch hears waits until all is there
    if (options.size > 1) {
      watch_.emplace(RankWatch::Options{options.rank, options.size, options.silence}, *control_,
                     RankWatch::Hearer{
                         .failed = [this](const Failure& failure) { end(failure); },
                         .left = [this](int rank, std::uint64_t begun) { has_left(rank, begun); },
                         .lost = [this](int rank, const std::string& how) { is_lost(rank, how); }});
    }
    mover_ = std::thread([this] { move(); });
  }

  std::shared_ptr<MessageMeeting> begin(const CollectiveCall& call);
  [[nodiscard]] bool done(const MessageMeeting& meeting);
  void wait(const MessageMeeting& meeting);
  void drop(const MessageMeeting& meeting);
  /// Ends both threads; nothing begins afterwards.
  void leave();

 private:
  class Round;
  using Lock = std::unique_lock<std::mutex>;

  // ---- with the mutex held
  void fail(Failure failure);
  [[nodiscard]] bool is_over(const MessageMeeting& meeting) const {
    return meeting.moved || (failure_ && moving_ != &meeting);
  }
  [[nodiscard]] Failure failure_of_one_that_left(int rank, const MessageMeeting& meeting) const;
  [[nodiscard]] std::string place() const;

  // ---- without
  void end(const Failure& failure);
  void has_left(int rank, std::uint64_t begun);
  void is_lost(int rank, const std::string& how);
  void move();
  [[nodiscard]] std::optional<Failure> carry_out(const MessageMeeting& meeting);
  [[nodiscard]] std::optional<Failure> blame(const PeerLost& lost, const MessageMeeting& meeting);
  /// Waits for a message, unless the run ends: Ended then.
  void wait_for(Message& message, const MessageMeeting& meeting);

  const Options options_;
  const std::unique_ptr<Messenger> data_, control_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t begun_ = 0;
  std::deque<std::shared_ptr<MessageMeeting>> queue_;
  const MessageMeeting* moving_ = nullptr;          // its memory is in use
  Message* current_ = nullptr;                      // the mover waits for it
  std::optional<Failure> failure_;                  // what ended the run
  std::optional<std::uint64_t> overdue_;            // a collective that was waited for too long
  std::vector<std::optional<std::uint64_t>> left_;  // collectives begun by those that have left
  bool stop_ = false;
  std::optional<RankWatch> watch_;
  std::thread mover_;
};

// ---- this rank's thread ------------------------------------------------------------------------

std::shared_ptr<MessageMeeting> MessageRanks::Exchange::begin(const CollectiveCall& call) {
  const Lock lock(mutex_);
  auto meeting = std::make_shared<MessageMeeting>(MessageMeeting{begun_ + 1, call});
  for (int other = 0; !failure_ && other < options_.size; ++other) {
    const auto& left = left_[static_cast<std::size_t>(other)];
    if (left && *left < meeting->number) fail(failure_of_one_that_left(other, *meeting));
  }
  if (failure_) failure_->raise();
  ++begun_;
  queue_.push_back(meeting);
  changed_.notify_all();
  return meeting;
}

bool MessageRanks::Exchange::done(const MessageMeeting& meeting) {
  const Lock lock(mutex_);
  return is_over(meeting);
}

void MessageRanks::Exchange::wait(const MessageMeeting& meeting) {
  Lock lock(mutex_);
  if (!changed_.wait_for(lock, options_.deadline, [&] { return is_over(meeting); })) {
    overdue_ = meeting.number;  // the mover knows who has not come
    if (current_ != nullptr) current_->abort();
    changed_.wait(lock, [&] { return is_over(meeting); });
  }
  if (!meeting.moved) failure_->raise();
}

void MessageRanks::Exchange::drop(const MessageMeeting& meeting) {
  Lock lock(mutex_);
  if (!is_over(meeting)) {
    fail({Failure::Kind::kRank, options_.rank,
          rank_name(options_.rank) + " dropped " + name_of(meeting, options_.size) +
              " before it was done; look for its own error"});
  }
  changed_.wait(lock, [&] { return is_over(meeting); });
}

void MessageRanks::Exchange::leave() {
  std::uint64_t begun = 0;
  {
    const Lock lock(mutex_);
    if (moving_ != nullptr || !queue_.empty()) {
      fail({Failure::Kind::kRank, options_.rank,
            rank_name(options_.rank) + " left before collective " + std::to_string(begun_) +
                " was done; look for its own error"});
    }
    stop_ = true;
    begun = begun_;
    changed_.notify_all();
  }
  mover_.join();
  if (watch_) watch_->leave(begun);
}

// ---- what is heard -----------------------------------------------------------------------------

void MessageRanks::Exchange::fail(Failure failure) {
  if (failure_) return;  // the first one tells why
  failure_ = std::move(failure);
  if (current_ != nullptr) current_->abort();
  if (watch_) watch_->announce(*failure_);
  changed_.notify_all();
}

void MessageRanks::Exchange::end(const Failure& failure) {
  const Lock lock(mutex_);
  fail(failure);
}

void MessageRanks::Exchange::has_left(int rank, std::uint64_t begun) {
  const Lock lock(mutex_);
  left_[static_cast<std::size_t>(rank)] = begun;
  if (begun_ > begun) {
    fail({Failure::Kind::kRank, rank,
          rank_name(rank) + " left before it came to collective " + std::to_string(begun + 1) +
              ", where others wait for it; look for its own error"});
  }
  changed_.notify_all();
}

void MessageRanks::Exchange::is_lost(int rank, const std::string& how) {
  Lock lock(mutex_);
  const auto& left = left_[static_cast<std::size_t>(rank)];
  changed_.wait_for(lock, kLastWords, [&] { return failure_ || left; });
  if (left) return;
  fail({Failure::Kind::kRank, rank,
        rank_name(rank) + " " + how + "; " + rank_name(options_.rank) + " was " + place()});
}

Failure MessageRanks::Exchange::failure_of_one_that_left(int rank,
                                                         const MessageMeeting& meeting) const {
  return {Failure::Kind::kRank, rank,
          rank_name(rank) + " left, and " + rank_name(options_.rank) + " came to " +
              name_of(meeting, options_.size) +
              ", which it had not come to; look for its own error"};
}

std::string MessageRanks::Exchange::place() const {
  if (moving_ != nullptr) return "at " + name_of(*moving_, options_.size);
  return "between collectives " + std::to_string(begun_) + " and " + std::to_string(begun_ + 1);
}

// ---- the mover ---------------------------------------------------------------------------------

void MessageRanks::Exchange::move() {
  take_no_signals();
  Lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || failure_ || !queue_.empty(); });
    if (stop_ || failure_) return;
    const std::shared_ptr<MessageMeeting> meeting = queue_.front();
    queue_.pop_front();
    moving_ = meeting.get();
    lock.unlock();
    std::optional<Failure> failure = carry_out(*meeting);
    lock.lock();
    if (failure) fail(std::move(*failure));
    meeting->moved = !failure_;
    moving_ = nullptr;
    changed_.notify_all();
  }
}

void MessageRanks::Exchange::wait_for(Message& message, const MessageMeeting& meeting) {
  const auto has_ended = [&] { return failure_ || (overdue_ && *overdue_ >= meeting.number); };
  {
    const Lock lock(mutex_);
    if (has_ended()) throw Ended();
    current_ = &message;
  }
  const auto waits_no_more = [&] {
    const Lock lock(mutex_);
    current_ = nullptr;
  };
  try {
    const bool done = message.wait();
    waits_no_more();
    if (!done) throw Ended();
  } catch (const ConnectionLost&) {
    waits_no_more();
    throw;
  }
}

/// One collective with all ranks. Destroyed, it has given its memory back.
class MessageRanks::Exchange::Round {
 public:
  Round(Exchange& exchange, const MessageMeeting& meeting)
      : exchange_(exchange),
        meeting_(meeting),
        ranks_(static_cast<std::size_t>(exchange.options_.size)),
        piece_(meeting.call.receive.size() / ranks_),
        own_header_(header_of(meeting)),
        headers_(ranks_),
        has_come_(ranks_) {}

  /// Throws Ended, PeerLost and UsageError.
  void go() {
    send_all();
    for (std::size_t other = 0; other < ranks_; ++other) {
      if (other != own()) meet(other);
    }
    receive_all();
    take_own_piece();
    for (auto& [other, message] : receiving_) wait_for(other, *message);
    for (auto& [other, message] : sending_) wait_for(other, *message);
  }

  /// The ranks that have not come, in words; takes nothing more in.
  [[nodiscard]] std::string name_those_missing() {
    std::string missing;
    int count = 0;
    for (std::size_t other = 0; other < ranks_; ++other) {
      if (other == own() || has_come_[other] || comes_now(other)) continue;
      missing.append(count++ == 0 ? "" : ", ").append(std::to_string(other));
    }
    if (count == 0) return "all ranks have come, but the bytes have not; raise the deadline";
    return (count == 1 ? "rank " + missing + " has" : "ranks " + missing + " have") +
           " not come; look for what it does instead, or raise the deadline";
  }

 private:
  using Lane = std::pair<std::size_t, std::unique_ptr<Message>>;

  [[nodiscard]] std::size_t own() const {
    return static_cast<std::size_t>(exchange_.options_.rank);
  }

  template <class Call>
  static decltype(auto) with(std::size_t other, const Call& call) {
    try {
      return call();
    } catch (const ConnectionLost& error) {
      throw PeerLost{static_cast<int>(other), error.what()};
    }
  }

  void wait_for(std::size_t other, Message& message) {
    with(other, [&] { exchange_.wait_for(message, meeting_); });
  }

  void send(std::size_t to, int tag, std::span<const std::byte> bytes) {
    with(to, [&] {
      sending_.emplace_back(to, exchange_.data_->send(static_cast<int>(to), tag, bytes));
    });
  }

  /// What this rank sends does not wait for the others' headers: a rank that has come to another
  /// collective receives none of it.
  void send_all() {
    for (std::size_t other = 0; other < ranks_; ++other) {
      if (other == own()) continue;
      with(other, [&] {
        headers_coming_.emplace_back(
            other,
            exchange_.data_->receive(static_cast<int>(other), kHeaderTag,
                                     std::as_writable_bytes(std::span(&headers_[other], 1))));
      });
      send(other, kHeaderTag, std::as_bytes(std::span(&own_header_, 1)));
      if (piece_ > 0) send(other, kBytesTag, piece_for(other));
    }
  }

  [[nodiscard]] std::span<const std::byte> piece_for(std::size_t other) const {
    const std::span<const std::byte> send = meeting_.call.send;
    return meeting_.call.kind == CollectiveKind::kAllToAll ? send.subspan(other * piece_, piece_)
                                                           : send;
  }

  [[nodiscard]] Message& header_from(std::size_t other) {
    for (auto& [from, message] : headers_coming_) {
      if (from == other) return *message;
    }
    throw std::logic_error("no header comes from rank " + std::to_string(other));
  }

  void meet(std::size_t other) {
    wait_for(other, header_from(other));
    has_come_[other] = true;
    const Header& header = headers_[other];
    if (header == own_header_) return;
    const int size = exchange_.options_.size;
    throw UsageError("the ranks do not agree on collective " + std::to_string(meeting_.number) +
                     ": rank " + std::to_string(other) + " calls " + name_of(header, size) +
                     ", rank " + std::to_string(own()) + " calls " + describe(meeting_.call, size) +
                     "; all ranks must make the same calls in the same order");
  }

  [[nodiscard]] bool comes_now(std::size_t other) {
    try {
      return header_from(other).wait_at_most(1ms);
    } catch (const ConnectionLost&) {
      return false;
    }
  }

  void receive_all() {
    for (std::size_t other = 0; piece_ > 0 && other < ranks_; ++other) {
      if (other == own()) continue;
      with(other, [&] {
        receiving_.emplace_back(
            other, exchange_.data_->receive(static_cast<int>(other), kBytesTag,
                                            meeting_.call.receive.subspan(other * piece_, piece_)));
      });
    }
  }

  void take_own_piece() {
    if (piece_ == 0) return;
    const std::byte* const from = piece_for(own()).data();
    std::byte* const to = meeting_.call.receive.data() + own() * piece_;
    if (from != to) std::memcpy(to, from, piece_);
  }

  Exchange& exchange_;
  const MessageMeeting& meeting_;
  const std::size_t ranks_, piece_;
  const Header own_header_;
  std::vector<Header> headers_;
  std::vector<bool> has_come_;
  std::vector<Lane> headers_coming_, sending_, receiving_;
};

/// Carries it out; a failure is one that this rank finds.
std::optional<Failure> MessageRanks::Exchange::carry_out(const MessageMeeting& meeting) {
  Round round(*this, meeting);
  try {
    round.go();
    return std::nullopt;
  } catch (const UsageError& error) {
    return Failure{Failure::Kind::kUsage, options_.rank, error.what()};
  } catch (const PeerLost& lost) {
    return blame(lost, meeting);
  } catch (const Ended&) {
    {
      const Lock lock(mutex_);
      if (failure_) return std::nullopt;
    }
    return Failure{Failure::Kind::kDeadline, options_.rank,
                   rank_name(options_.rank) + " has waited " +
                       std::to_string(options_.deadline.count()) + " ms for " +
                       name_of(meeting, options_.size) + ": " + round.name_those_missing()};
  }
}

std::optional<Failure> MessageRanks::Exchange::blame(const PeerLost& lost,
                                                     const MessageMeeting& meeting) {
  Lock lock(mutex_);
  const auto& left = left_[static_cast<std::size_t>(lost.rank)];
  changed_.wait_for(lock, kLastWords, [&] { return failure_ || left; });
  if (failure_) return std::nullopt;
  if (left && *left < meeting.number) return failure_of_one_that_left(lost.rank, meeting);
  return Failure{Failure::Kind::kRank, lost.rank,
                 rank_name(lost.rank) + " died: its connection was closed when " +
                     rank_name(options_.rank) + " was at " + name_of(meeting, options_.size) +
                     " (" + lost.how + "); look for its own error"};
}

// ---- the contract ------------------------------------------------------------------------------

/// A collective of this rank that has begun.
class MessageRanks::Pending final : public Collective::State {
 public:
  Pending(std::shared_ptr<Exchange> exchange, std::shared_ptr<const MessageMeeting> meeting)
      : exchange_(std::move(exchange)), meeting_(std::move(meeting)) {}
  ~Pending() override { exchange_->drop(*meeting_); }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;

  [[nodiscard]] bool done() const noexcept override { return exchange_->done(*meeting_); }
  void wait() override { exchange_->wait(*meeting_); }

 private:
  const std::shared_ptr<Exchange> exchange_;
  const std::shared_ptr<const MessageMeeting> meeting_;
};

MessageRanks::MessageRanks(const Options& options, std::unique_ptr<Messenger> data,
                           std::unique_ptr<Messenger> control)
    : options_(options),
      exchange_(std::make_shared<Exchange>(options, std::move(data), std::move(control))) {}

MessageRanks::~MessageRanks() { exchange_->leave(); }

Collective MessageRanks::begin(const CollectiveCall& call) {
  auto meeting = exchange_->begin(call);
  return Collective(std::make_unique<Pending>(exchange_, std::move(meeting)));
}

}  // namespace strata::zero3
