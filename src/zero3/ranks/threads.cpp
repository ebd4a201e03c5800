#include "zero3/ranks/threads.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "strata/base/error.h"
#include "zero3/ranks/failure.h"

namespace strata::zero3 {
namespace {

constexpr int kPoison = 0xFF;

/// One collective, and the ranks that have come to it.
struct Meeting {
  std::uint64_t number;
  std::vector<std::optional<CollectiveCall>> calls;  // the call of each rank
  std::size_t arrived = 0;
  bool moved = false;
};

bool is_same(const CollectiveCall& a, const CollectiveCall& b) {
  return a.kind == b.kind && a.send.size() == b.send.size() && a.receive.size() == b.receive.size();
}

/// Fills the memory to receive to, except for bytes sent from within it.
void poison(const CollectiveCall& call) {
  std::byte* const begin = call.receive.data();
  std::byte* const end = begin + call.receive.size();
  std::byte* own = end;
  std::byte* own_end = end;
  if (call.kind == CollectiveKind::kAllGather) {
    own = begin + (call.send.data() - begin);
    own_end = own + call.send.size();
  }
  std::fill(begin, own, std::byte{kPoison});
  std::fill(own_end, end, std::byte{kPoison});
}

/// Gives every rank the bytes that it receives.
void move_bytes(const std::vector<std::optional<CollectiveCall>>& calls) {
  for (std::size_t to = 0; to < calls.size(); ++to) {
    const std::span<std::byte> receive = calls[to]->receive;
    const std::size_t piece = receive.size() / calls.size();
    for (std::size_t from = 0; piece > 0 && from < calls.size(); ++from) {
      const CollectiveCall& source = *calls[from];
      const bool shared_out = source.kind == CollectiveKind::kAllToAll;
      const std::byte* const sent = source.send.data() + (shared_out ? to * piece : 0);
      std::byte* const target = receive.data() + from * piece;
      if (sent != target) std::memcpy(target, sent, piece);
    }
  }
}

/// The finalizer of splitmix64, as in dither.h.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

/// The state that the ranks share. One mutex guards all of it, and every change is told to all.
class ThreadRanks::Group {
 public:
  explicit Group(const Options& options)
      : options_(options),
        joined_(static_cast<std::size_t>(options.size)),
        left_(joined_.size()),
        mover_([this] { move_what_is_ready(); }) {}
  ~Group() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    mover_.join();
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  [[nodiscard]] int size() const { return options_.size; }

  void join(int rank);
  void leave(int rank, std::uint64_t begun);
  /// Brings a rank to its collective `number`, counted from 1.
  std::shared_ptr<Meeting> arrive(int rank, std::uint64_t number, const CollectiveCall& call);
  [[nodiscard]] bool done(const Meeting& meeting);
  void wait(int rank, const Meeting& meeting);
  void drop(int rank, const Meeting& meeting);

 private:
  using Lock = std::unique_lock<std::mutex>;

  void move_what_is_ready();
  void fail(Failure failure);
  void check_alive(int rank, std::uint64_t number, const CollectiveCall& call);
  void check_same(int rank, const Meeting& meeting, const CollectiveCall& call);
  /// Whether the bytes are there, or never will be and are no longer touched.
  [[nodiscard]] bool is_over(const Meeting& meeting) const {
    return meeting.moved || (failure_ && moving_ != &meeting);
  }
  [[nodiscard]] std::string name_those_missing(const Meeting& meeting) const;
  [[nodiscard]] std::chrono::microseconds delay(int rank, std::uint64_t number) const;

  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bool> joined_, left_;
  std::map<std::uint64_t, std::shared_ptr<Meeting>> open_;  // collectives to which some have come
  std::deque<std::shared_ptr<Meeting>> ready_;              // collectives to which all have come
  const Meeting* moving_ = nullptr;  // its memory is in use, without the mutex
  std::optional<Failure> failure_;
  bool stop_ = false;
  std::thread mover_;
};

void ThreadRanks::Group::join(int rank) {
  const Lock lock(mutex_);
  if (rank < 0 || rank >= size())
    throw UsageError("rank " + std::to_string(rank) + " cannot join a group of " +
                     std::to_string(size()) + " ranks");
  if (joined_[static_cast<std::size_t>(rank)])
    throw UsageError("rank " + std::to_string(rank) + " has joined its group before");
  joined_[static_cast<std::size_t>(rank)] = true;
}

void ThreadRanks::Group::leave(int rank, std::uint64_t begun) {
  const Lock lock(mutex_);
  left_[static_cast<std::size_t>(rank)] = true;
  if (open_.upper_bound(begun) == open_.end()) return;
  fail({Failure::Kind::kRank, rank,
        "rank " + std::to_string(rank) + " left before it came to collective " +
            std::to_string(begun + 1) + ", where others wait for it; look for its own error"});
}

std::shared_ptr<Meeting> ThreadRanks::Group::arrive(int rank, std::uint64_t number,
                                                    const CollectiveCall& call) {
  std::this_thread::sleep_for(delay(rank, number));
  const Lock lock(mutex_);
  check_alive(rank, number, call);
  std::shared_ptr<Meeting>& open = open_[number];
  if (open == nullptr) {
    open = std::make_shared<Meeting>();
    open->number = number;
    open->calls.resize(left_.size());
  }
  std::shared_ptr<Meeting> meeting = open;
  check_same(rank, *meeting, call);
  poison(call);
  meeting->calls[static_cast<std::size_t>(rank)] = call;
  if (++meeting->arrived == meeting->calls.size()) {
    ready_.push_back(meeting);
    open_.erase(number);
    changed_.notify_all();
  }
  return meeting;
}

/// Ends the run, by an error, if it has ended, if it is this rank's turn to die, or if another has
/// left that would have to come.
void ThreadRanks::Group::check_alive(int rank, std::uint64_t number, const CollectiveCall& call) {
  const std::string which =
      "collective " + std::to_string(number) + " (" + describe(call, size()) + ")";
  if (options_.death && options_.death->rank == rank && options_.death->collective == number) {
    fail({Failure::Kind::kRank, rank,
          "rank " + std::to_string(rank) + " died when it came to " + which +
              "; the run cannot go on without it"});
  }
  const auto open = open_.find(number);
  for (std::size_t other = 0; !failure_ && other < left_.size(); ++other) {
    const bool has_come = open != open_.end() && open->second->calls[other].has_value();
    if (!left_[other] || has_come) continue;
    fail({Failure::Kind::kRank, static_cast<int>(other),
          "rank " + std::to_string(other) + " left, and rank " + std::to_string(rank) +
              " came to " + which + ", which it had not come to; look for its own error"});
  }
  if (failure_) failure_->raise();
}

void ThreadRanks::Group::check_same(int rank, const Meeting& meeting, const CollectiveCall& call) {
  for (std::size_t other = 0; other < meeting.calls.size(); ++other) {
    if (!meeting.calls[other] || is_same(*meeting.calls[other], call)) continue;
    fail({Failure::Kind::kUsage, rank,
          "the ranks do not agree on collective " + std::to_string(meeting.number) + ": rank " +
              std::to_string(other) + " calls " + describe(*meeting.calls[other], size()) +
              ", rank " + std::to_string(rank) + " calls " + describe(call, size()) +
              "; all ranks must make the same calls in the same order"});
    failure_->raise();
  }
}

bool ThreadRanks::Group::done(const Meeting& meeting) {
  const Lock lock(mutex_);
  return is_over(meeting);
}

void ThreadRanks::Group::wait(int rank, const Meeting& meeting) {
  Lock lock(mutex_);
  if (!changed_.wait_for(lock, options_.deadline, [&] { return is_over(meeting); })) {
    fail({Failure::Kind::kDeadline, rank,
          "rank " + std::to_string(rank) + " has waited " +
              std::to_string(options_.deadline.count()) + " ms for collective " +
              std::to_string(meeting.number) + " (" +
              describe(*meeting.calls[static_cast<std::size_t>(rank)], size()) +
              "): " + name_those_missing(meeting)});
    changed_.wait(lock, [&] { return is_over(meeting); });
  }
  if (!meeting.moved) failure_->raise();
}

void ThreadRanks::Group::drop(int rank, const Meeting& meeting) {
  Lock lock(mutex_);
  if (!is_over(meeting))
    fail({Failure::Kind::kRank, rank,
          "rank " + std::to_string(rank) + " dropped collective " + std::to_string(meeting.number) +
              " before it was done; look for its own error"});
  changed_.wait(lock, [&] { return is_over(meeting); });
}

std::string ThreadRanks::Group::name_those_missing(const Meeting& meeting) const {
  std::string missing;
  int count = 0;
  for (std::size_t other = 0; other < meeting.calls.size(); ++other) {
    if (meeting.calls[other]) continue;
    missing.append(count++ == 0 ? "" : ", ").append(std::to_string(other));
  }
  if (count == 0) return "all ranks have come, but the bytes have not; raise the deadline";
  return (count == 1 ? "rank " + missing + " has" : "ranks " + missing + " have") +
         " not come; look for what it does instead, or raise the deadline";
}

void ThreadRanks::Group::fail(Failure failure) {
  if (failure_) return;  // the first one tells why
  failure_ = std::move(failure);
  changed_.notify_all();
}

/// Moves one collective after the other, in the order in which they began.
void ThreadRanks::Group::move_what_is_ready() {
  Lock lock(mutex_);
  const auto is_over_for_all = [&] { return stop_ || failure_.has_value(); };
  for (;;) {
    changed_.wait(lock, [&] { return is_over_for_all() || !ready_.empty(); });
    if (is_over_for_all()) return;
    const std::shared_ptr<Meeting> meeting = ready_.front();
    changed_.wait_for(lock, delay(size(), meeting->number), is_over_for_all);
    if (is_over_for_all()) return;
    ready_.pop_front();
    moving_ = meeting.get();
    lock.unlock();
    move_bytes(meeting->calls);
    lock.lock();
    moving_ = nullptr;
    meeting->moved = true;
    changed_.notify_all();
  }
}

std::chrono::microseconds ThreadRanks::Group::delay(int rank, std::uint64_t number) const {
  const auto most = static_cast<std::uint64_t>(options_.delay_max.count());
  const std::uint64_t random =
      mix(mix(options_.delay_seed + static_cast<std::uint64_t>(rank)) + number);
  return std::chrono::microseconds(random % (most + 1));
}

/// A collective of one rank that has begun.
class ThreadRanks::Pending final : public Collective::State {
 public:
  Pending(std::shared_ptr<Group> group, int rank, std::shared_ptr<const Meeting> meeting)
      : group_(std::move(group)), rank_(rank), meeting_(std::move(meeting)) {}
  ~Pending() override { group_->drop(rank_, *meeting_); }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;

  [[nodiscard]] bool done() const noexcept override { return group_->done(*meeting_); }
  void wait() override { group_->wait(rank_, *meeting_); }

 private:
  const std::shared_ptr<Group> group_;
  const int rank_;
  const std::shared_ptr<const Meeting> meeting_;
};

class ThreadRanks::Rank final : public Ranks {
 public:
  Rank(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  ~Rank() override { group_->leave(rank_, begun_); }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override { return group_->size(); }

 private:
  Collective begin(const CollectiveCall& call) override {
    auto meeting = group_->arrive(rank_, begun_ + 1, call);
    ++begun_;
    return Collective(std::make_unique<Pending>(group_, rank_, std::move(meeting)));
  }

  const std::shared_ptr<Group> group_;
  const int rank_;
  std::uint64_t begun_ = 0;
};

ThreadRanks::ThreadRanks(const Options& options) {
  if (options.size < 1)
    throw UsageError("a group has at least one rank, not " + std::to_string(options.size));
  group_ = std::make_shared<Group>(options);
}

ThreadRanks::~ThreadRanks() = default;

std::unique_ptr<Ranks> ThreadRanks::join(int rank) {
  group_->join(rank);
  return std::make_unique<Rank>(group_, rank);
}

}  // namespace strata::zero3
