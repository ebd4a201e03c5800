#include "zero3/order_trace.h"

#include <algorithm>

namespace strata::zero3 {

namespace {

std::size_t group_of(Entry entry) {
  return std::size_t{entry.unit} * 2 + static_cast<std::size_t>(entry.pass);
}

}  // namespace

// ---- what happens ----------------------------------------------------------------------------

void OrderTrace::enter(Entry entry, View view) {
  if (view == View::kEvaluating) {
    const auto places = places_of({entry.unit, Pass::kForward});
    if (places.empty()) return;
    const auto ahead = std::lower_bound(places.begin(), places.end(), evaluation_position_);
    evaluation_position_ = (ahead == places.end() ? places.front() : *ahead) + 1;
    return;
  }
  std::uint32_t& pending = pending_forwards_[entry.unit];
  if (entry.pass == Pass::kForward) {
    ++pending;
  } else if (pending > 0) {
    --pending;
  }
  std::optional<std::uint32_t> found = find(entry);
  if (!found && !places_of(entry).empty()) {  // all of its places have come: a new round begins
    ++round_;
    found = find(entry);
  }
  if (!found) {
    sequence_.push_back(static_cast<std::uint32_t>(record_.size() + unrecorded_.size()));
    // In the first cycle every entry is expected again; later, entries that come twice.
    unrecorded_.push_back(
        {.entry = entry, .count = recorded() ? std::uint8_t{1} : kExpected, .cycle = cycle_});
    return;
  }
  Recorded& recorded = record_[*found];
  if (recorded.cycle != cycle_) sequence_.push_back(*found);
  recorded.cycle = cycle_;
  recorded.round = round_;
  position_ = *found + 1;
}

std::span<const std::uint32_t> OrderTrace::places_of(Entry entry) const {
  const std::size_t group = group_of(entry);
  if (group + 1 >= places_begin_.size()) return {};
  return std::span(places_).subspan(places_begin_[group],
                                    places_begin_[group + 1] - places_begin_[group]);
}

/// The nearest place of `entry` that has not come in this round, from the one reached, going round.
std::optional<std::uint32_t> OrderTrace::find(Entry entry) const {
  const auto places = places_of(entry);
  const auto ahead = std::lower_bound(places.begin(), places.end(), position_);
  const auto has_not_come = [&](std::uint32_t place) { return record_[place].round != round_; };
  auto found = std::find_if(ahead, places.end(), has_not_come);
  if (found == places.end()) {
    found = std::find_if(places.begin(), ahead, has_not_come);
    if (found == ahead) return std::nullopt;
  }
  return *found;
}

void OrderTrace::end_cycle(bool complete) {
  if (complete) take_newest_order();
  unrecorded_.clear();
  sequence_.clear();
  std::fill(pending_forwards_.begin(), pending_forwards_.end(), 0);
  position_ = 0;
  evaluation_position_ = 0;
  ++round_;
  ++cycle_;
}

void OrderTrace::count_absences() {
  for (Recorded& recorded : record_) {
    if (recorded.cycle == cycle_) {
      recorded.absences = 0;
      recorded.count = std::min<std::uint8_t>(recorded.count + 1, kSurest);
    } else {
      ++recorded.absences;
      recorded.count -= recorded.count > 0 ? 1 : 0;
    }
  }
}

/// Merges the entries that came, in their order, with the others, each behind its neighbour.
void OrderTrace::take_newest_order() {
  count_absences();
  const bool in_order = unrecorded_.empty() && std::is_sorted(sequence_.begin(), sequence_.end());
  const bool forgets = std::any_of(record_.begin(), record_.end(), [](const Recorded& recorded) {
    return recorded.absences >= kForgottenAfter;
  });
  if (in_order && !forgets) return;

  std::vector<Recorded> merged;
  merged.reserve(record_.size() + unrecorded_.size());
  std::uint32_t next = 0;
  const auto keep_absent = [&](std::uint32_t up_to) {
    for (; next < up_to; ++next) {
      const Recorded& recorded = record_[next];
      if (recorded.cycle != cycle_ && recorded.absences < kForgottenAfter) {
        merged.push_back(recorded);
      }
    }
  };
  for (const std::uint32_t index : sequence_) {
    if (index >= record_.size()) {
      merged.push_back(unrecorded_[index - record_.size()]);
      continue;
    }
    keep_absent(index);
    merged.push_back(record_[index]);
  }
  keep_absent(static_cast<std::uint32_t>(record_.size()));
  record_ = std::move(merged);
  index_places();
}

void OrderTrace::index_places() {
  places_begin_.assign(pending_forwards_.size() * 2 + 1, 0);
  for (const Recorded& recorded : record_) ++places_begin_[group_of(recorded.entry) + 1];
  for (std::size_t i = 1; i < places_begin_.size(); ++i) places_begin_[i] += places_begin_[i - 1];
  places_.resize(record_.size());
  std::vector<std::uint32_t> end(places_begin_.begin(), places_begin_.end() - 1);
  for (std::uint32_t place = 0; place < record_.size(); ++place) {
    places_[end[group_of(record_[place].entry)]++] = place;
  }
}

// ---- what is expected ------------------------------------------------------------------------

bool OrderTrace::is_expected(const Recorded& recorded, bool in_this_cycle, View view) const {
  if (view == View::kEvaluating) {
    return recorded.entry.pass == Pass::kForward && recorded.count >= kExpected;
  }
  if (in_this_cycle && recorded.round == round_) return false;  // it has come
  if (in_this_cycle && recorded.entry.pass == Pass::kBackward &&
      pending_forwards_[recorded.entry.unit] > 0) {
    return true;
  }
  return recorded.count >= kExpected;
}

std::optional<UnitId> OrderTrace::expected_at(std::uint64_t place, View view) const {
  if (!recorded()) return std::nullopt;
  const Recorded& recorded = record_[place % record_.size()];
  if (!is_expected(recorded, place < record_.size(), view)) return std::nullopt;
  return recorded.entry.unit;
}

std::uint64_t OrderTrace::next_use(UnitId unit, View view) const {
  std::uint64_t nearest = kNever;
  const std::uint64_t size = record_.size();
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    const auto places = places_of({unit, pass});
    const auto ahead = std::lower_bound(places.begin(), places.end(), position(view));
    const auto consider = [&](std::uint64_t place) {
      if (!is_expected(record_[place % size], place < size, view)) {
        if (view == View::kEvaluating && pass == Pass::kBackward) return false;
        nearest = std::min(nearest, place + size);
        return false;
      }
      nearest = std::min(nearest, place);
      return true;
    };
    const auto in_this_cycle = [&](std::uint32_t place) { return consider(place); };
    if (std::find_if(ahead, places.end(), in_this_cycle) != places.end()) continue;
    if (!places.empty()) consider(places.front() + size);
  }
  return nearest;
}

}  // namespace strata::zero3
