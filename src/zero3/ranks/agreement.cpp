#include "zero3/ranks/agreement.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "strata/base/error.h"

namespace strata::zero3 {
namespace {

constexpr char kEndOfName = '\x1f';
constexpr char kEndOfFact = '\x1e';

std::string text_of(const Facts& facts) {
  std::string text;
  for (const auto& [name, value] : facts) text += name + kEndOfName + value + kEndOfFact;
  return text;
}

Facts facts_of(std::string_view text) {
  Facts facts;
  while (true) {
    const std::size_t middle = text.find(kEndOfName);
    const std::size_t end = text.find(kEndOfFact);
    if (middle == std::string_view::npos || end == std::string_view::npos) return facts;
    facts.emplace_back(text.substr(0, middle), text.substr(middle + 1, end - middle - 1));
    text.remove_prefix(end + 1);
  }
}

/// The texts of all ranks, which may have any length.
std::vector<std::string> gather_texts(Ranks& ranks, const std::string& own) {
  const std::vector<std::uint64_t> lengths = ranks.gather_values<std::uint64_t>(own.size());
  const std::size_t room = *std::max_element(lengths.begin(), lengths.end());
  std::vector<std::byte> all(room * lengths.size());
  std::ranges::copy(std::as_bytes(std::span(own)),
                    all.begin() + static_cast<std::ptrdiff_t>(room) * ranks.rank());
  ranks.begin_all_gather(all).wait();
  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < lengths.size(); ++rank) {
    texts.emplace_back(reinterpret_cast<const char*>(all.data() + rank * room), lengths[rank]);
  }
  return texts;
}

std::string value_of(const Facts& facts, const std::string& name) {
  for (const auto& [each, value] : facts) {
    if (each == name) return value;
  }
  return "nothing";
}

/// The name of the first fact that is not the same in both.
std::string first_difference(const Facts& a, const Facts& b) {
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    if (i >= a.size()) return b[i].first;
    if (i >= b.size() || a[i] != b[i]) return a[i].first;
  }
  return {};
}

}  // namespace

void require_agreement(Ranks& ranks, std::string_view what, const Facts& facts) {
  if (ranks.size() == 1) return;
  const std::vector<std::string> texts = gather_texts(ranks, text_of(facts));
  const Facts first = facts_of(texts.front());
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts.front()) continue;
    const Facts other = facts_of(texts[rank]);
    const std::string name = first_difference(first, other);
    throw ConfigError(std::string(what) + " differs between ranks: " + name + " is " +
                      value_of(other, name) + " on rank " + std::to_string(rank) + " and " +
                      value_of(first, name) +
                      " on rank 0; give all ranks the same, or their results would be nobody's");
  }
}

}  // namespace strata::zero3
