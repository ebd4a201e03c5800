#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "aio/acceptor.h"
#include "aio/transfer_failure.h"
#include "strata/aio/operation.h"

namespace strata::aio::detail {

/// One place in the queue's fixed pool: the state of an accepted operation until it has finished.
///
/// `phase` counts the uses of the place. An even value is the current use, free or in flight; the
/// odd value after it means that this use failed and that its ticket has not asked yet; the next
/// even value begins the next use. So a ticket, which remembers its even value (the use's
/// generation), knows the outcome from `phase` alone, and a place whose operation succeeded is free
/// at once, ticket or not. Only `end_use` and `reclaim` change it.
struct OperationState {
  Acceptor* acceptor = nullptr;
  OperationState* next = nullptr;  // next in the one list that holds this state
  Operation operation{};
  std::uint64_t tag = 0;    // given by IoChannel's caller
  bool has_ticket = false;  // in IoChannel: it has a ticket instead of a tag

  // Used by the driver while in flight.
  std::uint64_t bytes_issued = 0;
  std::uint32_t blocks_out = 0;
  TransferFailure failure;

  std::atomic<std::uint32_t> phase{0};

  [[nodiscard]] bool failed() const { return failure.kind != TransferFailure::Kind::kNone; }

  /// Publishes the outcome of the current use. True when the place is free at once; one that failed
  /// is its ticket's to reclaim. Sequentially consistent: a notification after it must not overtake
  /// it and miss a waiter.
  [[nodiscard]] bool end_use() {
    const bool is_free = !failed();
    phase.fetch_add(is_free ? 2 : 1);
    return is_free;
  }
  /// Frees the place of a use that failed.
  void reclaim() { phase.fetch_add(1); }

  [[nodiscard]] bool is_over(std::uint32_t generation) const {
    return phase.load(std::memory_order_acquire) != generation;
  }
  /// The failure of a use that is over and whose ticket has not asked yet.
  [[nodiscard]] bool has_failed(std::uint32_t generation) const {
    return phase.load(std::memory_order_acquire) == generation + 1;
  }
};

/// A first-in, first-out list of states, linked through the states themselves.
class OperationList {
 public:
  [[nodiscard]] bool empty() const { return front_ == nullptr; }
  [[nodiscard]] OperationState* front() const { return front_; }

  void push_back(OperationState& state) {
    state.next = nullptr;
    (front_ == nullptr ? front_ : back_->next) = &state;
    back_ = &state;
  }

  OperationState& pop_front() {
    OperationState& state = *front_;
    front_ = state.next;
    return state;
  }

 private:
  OperationState* front_ = nullptr;
  OperationState* back_ = nullptr;
};

}  // namespace strata::aio::detail
