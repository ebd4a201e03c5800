#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "zero3/ranks/message_ranks.h"
#include "zero3/ranks/messenger.h"

/// \file
/// Ranks over messages within one process: the logic of MessageRanks without a transport, where a
/// thread sanitizer sees all of it.

namespace strata::zero3 {

/// Carries the messages of a world's ranks. A message moves when both of its ends have begun. A
/// rank can be cut off as a process that ends is, or frozen as one that is stopped.
class LocalPost {
 public:
  explicit LocalPost(int size)
      : cut_(static_cast<std::size_t>(size)), frozen_(static_cast<std::size_t>(size)) {}

  /// Every connection of the rank is closed, as at the end of its messenger.
  void cut(int rank) {
    const std::lock_guard lock(mutex_);
    cut_[static_cast<std::size_t>(rank)] = true;
    changed_.notify_all();
  }
  /// As `cut`, within a message to each rank that receives from any.
  void cut_within_messages(int rank) {
    cut(rank);
    const std::lock_guard lock(mutex_);
    const auto is_cut = [](Parcel* each) { return each->from == kAny && !each->done; };
    for (Parcel* const each : open_) each->is_cut = is_cut(each);
    std::erase_if(open_, is_cut);
    changed_.notify_all();
  }
  /// Nothing goes to the rank or comes from it any more, and nobody notices.
  void freeze(int rank) {
    const std::lock_guard lock(mutex_);
    frozen_[static_cast<std::size_t>(rank)] = true;
  }

  [[nodiscard]] std::unique_ptr<Messenger> messenger(int rank) {
    return std::make_unique<End>(*this, rank);
  }

 private:
  static constexpr int kAny = -1;

  /// One end of a message.
  struct Parcel {
    int from, to, tag;
    bool is_sent;
    std::byte* bytes;
    std::size_t size;
    bool done = false, aborted = false, is_cut = false;
  };

  class Lent final : public Message {
   public:
    Lent(LocalPost& post, Parcel* parcel) : post_(post), parcel_(parcel) {}
    ~Lent() override { post_.withdraw(parcel_.get()); }
    Lent(const Lent&) = delete;
    Lent& operator=(const Lent&) = delete;
    bool wait() override { return post_.wait(*parcel_, std::nullopt); }
    bool wait_at_most(std::chrono::milliseconds patience) override {
      return post_.wait(*parcel_, patience);
    }
    void abort() noexcept override {
      const std::lock_guard lock(post_.mutex_);
      parcel_->aborted = true;
      post_.changed_.notify_all();
    }

   private:
    LocalPost& post_;
    std::unique_ptr<Parcel> parcel_;
  };

  class End final : public Messenger {
   public:
    End(LocalPost& post, int rank) : post_(post), rank_(rank) {}
    ~End() override { post_.cut(rank_); }
    End(const End&) = delete;
    End& operator=(const End&) = delete;
    std::unique_ptr<Message> send(int to, int tag, std::span<const std::byte> bytes) override {
      return post_.begin(
          {rank_, to, tag, true, const_cast<std::byte*>(bytes.data()), bytes.size()});
    }
    std::unique_ptr<Message> receive(int from, int tag, std::span<std::byte> bytes) override {
      return post_.begin({from, rank_, tag, false, bytes.data(), bytes.size()});
    }
    std::unique_ptr<Message> receive_from_any(int tag, std::span<std::byte> bytes) override {
      return post_.begin({kAny, rank_, tag, false, bytes.data(), bytes.size()});
    }

   private:
    LocalPost& post_;
    const int rank_;
  };

  [[nodiscard]] bool is(const std::vector<bool>& what, int rank) const {
    return rank != kAny && what[static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] bool is_lost(const Parcel& parcel) const {
    return parcel.is_cut || is(cut_, parcel.from) || is(cut_, parcel.to);
  }

  std::unique_ptr<Message> begin(const Parcel& given) {
    const std::lock_guard lock(mutex_);
    if (is_lost(given)) throw ConnectionLost("cut off");
    auto* const parcel = new Parcel(given);
    auto message = std::make_unique<Lent>(*this, parcel);
    if (is(frozen_, parcel->from) || is(frozen_, parcel->to)) return message;
    const auto other = std::find_if(open_.begin(), open_.end(), [&](const Parcel* each) {
      return each->is_sent != parcel->is_sent && each->tag == parcel->tag &&
             each->to == parcel->to &&
             (each->from == parcel->from || each->from == kAny || parcel->from == kAny);
    });
    if (other == open_.end()) {
      open_.push_back(parcel);
      return message;
    }
    const Parcel& source = parcel->is_sent ? *parcel : **other;
    const Parcel& target = parcel->is_sent ? **other : *parcel;
    std::memcpy(target.bytes, source.bytes, std::min(source.size, target.size));
    parcel->done = (*other)->done = true;
    open_.erase(other);
    changed_.notify_all();
    return message;
  }

  bool wait(Parcel& parcel, std::optional<std::chrono::milliseconds> patience) {
    std::unique_lock lock(mutex_);
    const auto is_over = [&] { return parcel.done || parcel.aborted || is_lost(parcel); };
    if (!patience) {
      changed_.wait(lock, is_over);
    } else if (!changed_.wait_for(lock, *patience, is_over)) {
      throw ConnectionLost("timed out");
    }
    if (parcel.done) return true;
    if (!std::exchange(parcel.aborted, false)) throw ConnectionLost("cut off");
    return false;
  }

  void withdraw(Parcel* parcel) {
    const std::lock_guard lock(mutex_);
    std::erase(open_, parcel);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bool> cut_, frozen_;
  std::deque<Parcel*> open_;  // ends that wait for their other one
};

/// The two connections of a world, whose ranks a test cuts off and freezes.
struct LocalWorld {
  explicit LocalWorld(int size) : data(size), control(size) {}
  void cut(int rank) {
    data.cut(rank);
    control.cut(rank);
  }
  void cut_within_letters(int rank) {
    data.cut(rank);
    control.cut_within_messages(rank);
  }
  void freeze(int rank) {
    data.freeze(rank);
    control.freeze(rank);
  }
  LocalPost data, control;
};

/// Runs `body` on a thread for each rank of a world over messages, as run_ranks does;
/// `options.rank` is each one's own.
inline std::vector<std::exception_ptr> run_message_ranks(
    const MessageRanks::Options& options, const std::function<void(Ranks&, LocalWorld&)>& body) {
  LocalWorld world(options.size);
  std::vector<std::exception_ptr> thrown(static_cast<std::size_t>(options.size));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < options.size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        MessageRanks::Options own = options;
        own.rank = rank;
        MessageRanks ranks(own, world.data.messenger(rank), world.control.messenger(rank));
        body(ranks, world);
      } catch (...) {
        thrown[static_cast<std::size_t>(rank)] = std::current_exception();
      }
    });
  }
  threads.clear();
  return thrown;
}

}  // namespace strata::zero3
