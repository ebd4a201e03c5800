#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

/// \file
/// The contract between the ranks of a run: their exchanges, and the errors when one of them does
/// not come. `one_rank.h`, `threads.h` and `message_ranks.h` (processes) fulfil it.
///
/// Order. All ranks make the same collectives in the same order, with the same kind and the same
/// bytes; a collective is begun when this rank comes to it and ends when all have come and the
/// bytes have moved. Collectives that have begun go on by themselves, whatever their ranks do
/// meanwhile, and end in the order in which they began.
///
/// Errors. A call that breaks a rule by itself (bytes that cannot be shared out evenly) throws
/// UsageError and nothing has begun. Any other error ends the run: it is thrown by every `wait` on
/// a collective that has not ended and by every collective that is begun later, on all ranks.
///
///   UsageError        two ranks came to the same place with different calls; names both and both
///   RankFailure       a rank died, left, or dropped a collective; names it
///   DeadlineExceeded  a rank waited for longer than the deadline; names the ranks still missing
///
/// No wait is without a deadline, so no mistake of one rank hangs another.
///
/// Threads. A `Ranks` and its collectives belong to one thread at a time, the engine's; different
/// ranks of a process may be used at once.

namespace strata::zero3 {

enum class CollectiveKind : std::uint8_t { kAllGather, kAllToAll, kValues, kBarrier };

[[nodiscard]] constexpr std::string_view name_of(CollectiveKind kind) {
  constexpr std::array<std::string_view, 4> kNames = {"all_gather", "all_to_all", "gather_values",
                                                      "barrier"};
  return kNames[static_cast<std::size_t>(kind)];
}

/// One rank's part in a collective: the bytes that it sends, and the memory that it receives to.
struct CollectiveCall {
  CollectiveKind kind;
  std::span<const std::byte> send;  ///< one piece for all ranks; all_to_all: one for each
  std::span<std::byte> receive;     ///< one piece from each rank, in rank order
};

/// The call in words: "all_gather of 3 x 1024 bytes".
[[nodiscard]] std::string describe(const CollectiveCall& call, int world_size);

/// A collective that has begun. Its memory is lent until it is done: bytes to send must not change,
/// and received bytes are undefined before. Movable; a default one is done.
///
/// A collective dropped before it is done ends the run for all ranks (RankFailure names this one),
/// since the others cannot finish it: after the destructor its memory is no longer touched.
class Collective {
 public:
  /// An implementation's part of it. The destructor drops it.
  class State {
   public:
    virtual ~State() = default;
    [[nodiscard]] virtual bool done() const noexcept = 0;
    virtual void wait() = 0;
  };

  Collective() = default;
  explicit Collective(std::unique_ptr<State> state) : state_(std::move(state)) {}

  /// True once `wait` would not block, also where it would throw. Never blocks: "not now" is an
  /// answer.
  [[nodiscard]] bool done() const noexcept { return state_ == nullptr || state_->done(); }

  /// Waits until the bytes are there. Throws what the file's head says; may be called again.
  void wait() {
    if (state_ != nullptr) state_->wait();
  }

 private:
  std::unique_ptr<State> state_;
};

/// This rank's end of the connection to all ranks. Destroyed, it has left: see RankFailure.
class Ranks {
 public:
  Ranks() = default;
  virtual ~Ranks() = default;
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  [[nodiscard]] virtual int rank() const noexcept = 0;  ///< counts from 0
  [[nodiscard]] virtual int size() const noexcept = 0;  ///< at least 1

  /// Begins to fill `buffer` with the shards of the others: size() equal shards in rank order, of
  /// which this rank's is in its place already.
  [[nodiscard]] Collective begin_all_gather(std::span<std::byte> buffer);

  /// Begins to exchange: `send` has a piece for each rank, `receive` gets one from each, both in
  /// rank order, all pieces equal. The two do not overlap; of a single rank they may be the same
  /// memory, and then nothing moves.
  [[nodiscard]] Collective begin_all_to_all(std::span<const std::byte> send,
                                            std::span<std::byte> receive);

  /// Returns every rank's small value, in rank order. The values have the same size on all ranks.
  template <class Value>
  [[nodiscard]] std::vector<Value> gather_values(const Value& value);

  /// Adds each of `values` over the ranks, in rank order: all get the same bits. They are as many
  /// on all ranks.
  void sum(std::span<double> values);

  /// Returns when all ranks have come here.
  void barrier();

  /// Bytes that came from other ranks in collectives of a kind begun so far; as many went to them.
  [[nodiscard]] std::uint64_t received(CollectiveKind kind) const noexcept {
    return received_[static_cast<std::size_t>(kind)];
  }

 private:
  /// Counts a call and begins it.
  Collective start(const CollectiveCall& call);
  /// Begins a call that is well formed.
  virtual Collective begin(const CollectiveCall& call) = 0;

  std::array<std::uint64_t, 4> received_{};  // by kind
};

template <class Value>
std::vector<Value> Ranks::gather_values(const Value& value) {
  static_assert(std::is_trivially_copyable_v<Value>);
  std::vector<Value> values(static_cast<std::size_t>(size()));
  start({.kind = CollectiveKind::kValues,
         .send = std::as_bytes(std::span(&value, 1)),
         .receive = std::as_writable_bytes(std::span(values))})
      .wait();
  return values;
}

}  // namespace strata::zero3
