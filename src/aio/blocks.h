#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "aio/operation_state.h"
#include "strata/base/clock.h"

/// \file
/// The state of each request of a driver, between its operation and the backend.

namespace strata::aio {

enum class BlockState : std::uint8_t { kFree, kStaged, kIssued, kBackingOff, kLost };

inline constexpr std::size_t kBlockStates = 5;

struct BlockMeaning {
  BlockState state;
  std::string_view name;
  bool has_owner;         ///< it counts in `blocks_out` of an operation
  bool is_in_backend;     ///< its completion is still to come
  std::uint8_t leads_to;  ///< the states that may follow, a bit each
  std::string_view meaning;
};

namespace detail {
constexpr std::uint8_t any_of(std::initializer_list<BlockState> states) {
  unsigned bits = 0;
  for (const BlockState state : states) bits |= 1u << static_cast<unsigned>(state);
  return static_cast<std::uint8_t>(bits);
}
}  // namespace detail

/// The table of all states. A block that meets nothing unusual goes from free to staged to issued
/// and back.
inline constexpr std::array<BlockMeaning, kBlockStates> kBlockMeanings = {{
    {BlockState::kFree, "free", false, false, detail::any_of({BlockState::kStaged}),
     "carries nothing"},
    {BlockState::kStaged, "staged", true, false,
     detail::any_of({BlockState::kIssued, BlockState::kFree, BlockState::kLost}),
     "goes to the backend in its turn; lost when the call that takes it does not come back"},
    {BlockState::kIssued, "issued", true, true,
     detail::any_of(
         {BlockState::kFree, BlockState::kStaged, BlockState::kBackingOff, BlockState::kLost}),
     "the backend has it; staged again when its transfer was short"},
    {BlockState::kBackingOff, "backing off", true, false,
     detail::any_of({BlockState::kStaged, BlockState::kFree}),
     "is tried again when its time comes"},
    {BlockState::kLost, "lost", false, true, detail::any_of({BlockState::kFree}),
     "its operation has ended without it; free when the backend answers after all"},
}};

[[nodiscard]] constexpr const BlockMeaning& meaning_of(BlockState state) {
  return kBlockMeanings[static_cast<std::size_t>(state)];
}

[[nodiscard]] constexpr bool may_follow(BlockState from, BlockState to) {
  return (meaning_of(from).leads_to >> static_cast<unsigned>(to) & 1u) != 0;
}

/// A block's index is the tag of its request.
using BlockIndex = std::uint32_t;

/// The part of an operation that one request carries.
struct Block {
  detail::OperationState* owner = nullptr;  // null where the table says that it has none
  std::uint64_t offset = 0;
  std::byte* data = nullptr;
  std::uint32_t bytes = 0;
  std::uint32_t attempts = 0;  // attempts without progress
  Time started{};              // when it was first offered to the backend
  Time not_before{};           // earliest time of the next attempt
  bool warned = false;
};

/// The blocks of a driver, each in the list of its state. Takes its memory when it is made.
class Blocks {
 public:
  explicit Blocks(std::size_t count);

  [[nodiscard]] std::size_t size() const { return links_.size(); }
  [[nodiscard]] Block& operator[](BlockIndex index) { return blocks_[index]; }
  [[nodiscard]] const Block& operator[](BlockIndex index) const { return blocks_[index]; }
  [[nodiscard]] BlockState state_of(BlockIndex index) const { return links_[index].state; }
  [[nodiscard]] bool has_owner(BlockIndex index) const {
    return meaning_of(state_of(index)).has_owner;
  }

  /// Moves a block from its state to another, in the only way there is: it becomes the last of the
  /// new state's list, and loses its owner where that state has none. Throws std::logic_error for a
  /// move that the table does not know.
  void move(BlockIndex index, BlockState to);

  /// The blocks in one state, in the order in which they came to it.
  [[nodiscard]] bool empty(BlockState state) const { return list_of(state).count == 0; }
  [[nodiscard]] std::size_t count(BlockState state) const { return list_of(state).count; }
  [[nodiscard]] BlockIndex front(BlockState state) const { return list_of(state).front; }

  /// Calls `visit(index)` for each block in `state`. It may move that block, but no other in it.
  template <typename Visit>
  void for_each(BlockState state, const Visit& visit) const {
    for (BlockIndex index = front(state); index != kNone;) {
      const BlockIndex next = links_[index].next;
      visit(index);
      index = next;
    }
  }
  /// Calls `visit(index)` for each block that has an owner, in the order of the indices. It may
  /// move any block.
  template <typename Visit>
  void for_each_owned(const Visit& visit) const {
    for (BlockIndex index = 0; index < size(); ++index) {
      if (has_owner(index)) visit(index);
    }
  }

 private:
  static constexpr BlockIndex kNone = ~BlockIndex{0};
  struct Links {
    BlockIndex previous = kNone;
    BlockIndex next = kNone;
    BlockState state = BlockState::kFree;
  };
  struct List {
    BlockIndex front = kNone;
    BlockIndex back = kNone;
    std::size_t count = 0;
  };
  [[nodiscard]] const List& list_of(BlockState state) const {
    return lists_[static_cast<std::size_t>(state)];
  }
  void push_back(BlockIndex index, BlockState state);
  void erase(BlockIndex index);

  std::vector<Block> blocks_;
  std::vector<Links> links_;
  std::array<List, kBlockStates> lists_;
};

}  // namespace strata::aio
