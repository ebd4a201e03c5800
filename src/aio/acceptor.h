#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace strata::aio::detail {

struct OperationState;

/// The side of a queue or channel that its tickets and registrations call. A ticket's operation is
/// the use `generation` of its place.
class Acceptor {
 public:
  /// Returns when that use is over.
  virtual void wait_for(OperationState& state, std::uint32_t generation) noexcept = 0;
  /// Publishes finished operations, without waiting for more.
  virtual void look() noexcept = 0;
  /// Frees the place of a failed operation.
  virtual void reclaim(OperationState& state) = 0;

  virtual void forget_memory(std::span<std::byte> memory) noexcept = 0;
  virtual void forget_file(int fd) noexcept = 0;

 protected:
  ~Acceptor() = default;
};

}  // namespace strata::aio::detail
