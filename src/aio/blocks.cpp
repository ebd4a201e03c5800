#include "aio/blocks.h"

#include <string>

#include "strata/base/error.h"

namespace strata::aio {

Blocks::Blocks(std::size_t count) : blocks_(count), links_(count), lists_{} {
  for (BlockIndex index = 0; index < count; ++index) push_back(index, BlockState::kFree);
}

void Blocks::move(BlockIndex index, BlockState to) {
  const BlockState from = state_of(index);
  STRATA_CHECK(may_follow(from, to),
               std::string(meaning_of(from).name) + " to " + std::string(meaning_of(to).name));
  erase(index);
  push_back(index, to);
  if (!meaning_of(to).has_owner) blocks_[index].owner = nullptr;
}

void Blocks::push_back(BlockIndex index, BlockState state) {
  List& list = lists_[static_cast<std::size_t>(state)];
  links_[index] = {.previous = list.back, .next = kNone, .state = state};
  (list.count == 0 ? list.front : links_[list.back].next) = index;
  list.back = index;
  ++list.count;
}

void Blocks::erase(BlockIndex index) {
  const Links& links = links_[index];
  List& list = lists_[static_cast<std::size_t>(links.state)];
  (links.previous == kNone ? list.front : links_[links.previous].next) = links.next;
  (links.next == kNone ? list.back : links_[links.next].previous) = links.previous;
  --list.count;
}

}  // namespace strata::aio
