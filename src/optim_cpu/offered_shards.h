#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "optim_cpu/window.h"
#include "strata/optim_cpu/shard_states.h"

namespace strata::optim_cpu {

/// The shards of a step that are offered and not complete, and the window of them that is next.
///
/// Shards are numbered as they take a place; number n has place n % places. Always first <= next <=
/// end: all windows of those before `next` have begun, those before `first` are complete.
class OfferedShards {
 public:
  OfferedShards(std::size_t places, std::uint64_t window_elements)
      : places_(places), window_elements_(window_elements) {}

  void clear() { first_ = next_ = end_ = completed_ = elements_left_ = 0; }

  /// Takes a shard. False when there is no place for it.
  [[nodiscard]] bool take(const ShardStates& shard) {
    const std::uint64_t begin = next_update(shard, 0);
    if (begin == shard.count) {
      ++(first_ == end_ ? completed_ : place(end_ - 1).shards);
      return true;
    }
    if (end_ - first_ == places_.size()) return false;
    place(end_++) = {.shard = &shard, .begin = begin};
    elements_left_ += shard.count - begin;
    return true;
  }

  [[nodiscard]] bool has_window() const { return next_ < end_; }

  /// Elements of the windows that have not begun, at most.
  [[nodiscard]] std::uint64_t elements_left() const { return elements_left_; }

  /// Moves past windows in which nothing is updated.
  WindowRange begin_window() {
    Place& current = place(next_);
    const WindowRange range = window_at(*current.shard, current.begin);
    ++current.windows;
    current.begin = next_update(*current.shard, range.end);
    elements_left_ -= current.begin - range.begin;
    if (current.begin == current.shard->count) ++next_;
    return range;
  }

  /// Windows end in the order in which they were begun.
  void end_window() {
    Place& oldest = place(first_);
    if (--oldest.windows > 0 || first_ == next_) return;
    completed_ += oldest.shards;
    ++first_;
  }

  [[nodiscard]] std::uint64_t completed() const { return completed_; }
  [[nodiscard]] bool all_complete() const { return first_ == end_; }

 private:
  struct Place {
    const ShardStates* shard = nullptr;
    std::uint64_t begin = 0;    // start of the next window
    std::uint64_t windows = 0;  // windows begun and not ended
    std::uint64_t shards = 1;   // itself, and those offered after it in which nothing is updated
  };

  [[nodiscard]] Place& place(std::uint64_t number) { return places_[number % places_.size()]; }

  [[nodiscard]] WindowRange window_at(const ShardStates& shard, std::uint64_t begin) const {
    return {&shard, begin, std::min(begin + window_elements_, shard.count)};
  }

  /// The start of the first window from `begin` on with something to update; the end if none.
  [[nodiscard]] std::uint64_t next_update(const ShardStates& shard, std::uint64_t begin) const {
    while (begin < shard.count && !has_updates(window_at(shard, begin)))
      begin = window_at(shard, begin).end;
    return begin;
  }

  std::vector<Place> places_;
  std::uint64_t window_elements_;
  std::uint64_t first_ = 0, next_ = 0, end_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t elements_left_ = 0;
};

}  // namespace strata::optim_cpu
