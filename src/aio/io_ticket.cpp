#include <exception>
#include <utility>

#include "aio/acceptor.h"
#include "aio/operation_state.h"
#include "strata/aio/submitter.h"
#include "strata/base/error.h"

namespace strata::aio {

IoTicket::IoTicket(std::shared_ptr<detail::OperationState> state, std::uint32_t generation)
    : state_(std::move(state)), generation_(generation) {}

IoTicket::IoTicket(IoTicket&& other) noexcept
    : state_(std::move(other.state_)), generation_(other.generation_), settled_(other.settled_) {}

IoTicket& IoTicket::operator=(IoTicket&& other) noexcept {
  if (this == &other) return *this;
  settle();
  state_ = std::move(other.state_);
  generation_ = other.generation_;
  settled_ = other.settled_;
  return *this;
}

IoTicket::~IoTicket() { settle(); }

bool IoTicket::done() const noexcept {
  if (!state_ || settled_) return true;
  if (!state_->is_over(generation_)) state_->acceptor->look();
  return state_->is_over(generation_);
}

void IoTicket::wait() {
  if (!state_ || settled_) throw UsageError("an I/O ticket was waited for twice");
  state_->acceptor->wait_for(*state_, generation_);
  std::exception_ptr error;
  if (state_->has_failed(generation_)) error = error_of(state_->operation, state_->failure);
  settle();
  if (error) std::rethrow_exception(error);
}

/// Waits for the outcome and forgets it.
void IoTicket::settle() noexcept {
  if (!state_ || settled_) return;
  state_->acceptor->wait_for(*state_, generation_);
  settled_ = true;
  if (state_->has_failed(generation_)) state_->acceptor->reclaim(*state_);
}

}  // namespace strata::aio
