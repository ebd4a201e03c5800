#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>

namespace strata::tiering {

/// Where the bytes of a page of activations are.
///
///     filling --> unwritten --> writing --> in both --> on disk --> reading --> in both
///                                             |  ^                    |
///                                             +--|--------------------+  its frame is given up
enum class PageState : std::uint8_t {
  kFilling,    ///< in its frame, which has room for more
  kUnwritten,  ///< in its frame alone
  kWriting,    ///< in its frame; a flush is under way
  kInBoth,     ///< in its frame and in its place
  kOnDisk,     ///< in its place alone
  kReading,    ///< in its place; a fetch to its frame is under way
};
inline constexpr std::size_t kPageStates = 6;

/// When a page is wanted: that of the last group first, and within a group in the order of the
/// pages' numbers. Smaller is sooner.
struct PageUse {
  std::uint64_t group = 0, number = 0;
  std::strong_ordering operator<=>(const PageUse& other) const noexcept {
    if (group != other.group) return other.group <=> group;
    return number <=> other.number;
  }
  bool operator==(const PageUse&) const = default;
};

/// The pages of each state in the order of their use.
class PageOrder {
 public:
  using Pages = std::set<PageUse>;

  void add(PageState state, PageUse page) { of(state).insert(page); }
  void remove(PageState state, PageUse page) { of(state).erase(page); }

  [[nodiscard]] const Pages& in(PageState state) const {
    return pages_[static_cast<std::size_t>(state)];
  }
  [[nodiscard]] std::size_t count(PageState state) const { return in(state).size(); }
  /// The page of this state that is wanted last.
  [[nodiscard]] std::optional<PageUse> last(PageState state) const {
    if (in(state).empty()) return std::nullopt;
    return *in(state).rbegin();
  }
  /// The page of this state that is wanted next after `page`.
  [[nodiscard]] std::optional<PageUse> next(PageState state, PageUse page) const {
    const auto found = in(state).upper_bound(page);
    if (found == in(state).end()) return std::nullopt;
    return *found;
  }

 private:
  Pages& of(PageState state) { return pages_[static_cast<std::size_t>(state)]; }
  std::array<Pages, kPageStates> pages_;
};

}  // namespace strata::tiering
