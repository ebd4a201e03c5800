#include "row_source.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "strata/base/error.h"

namespace strata::tool {

// ---- windows
// -------------------------------------------------------------------------------------

WindowRows::WindowRows(const TokenRange& range, std::int64_t length)
    : range_(range), length_(static_cast<std::uint64_t>(length)) {
  STRATA_CHECK(length > 0 && range.count > length_, std::to_string(range.count));
}

std::uint64_t WindowRows::count() const { return (range_.count - 1) / length_; }

Row WindowRows::row(std::uint64_t row) const {
  std::vector<std::int64_t> window(length_ + 1);
  range_.file->read(range_.begin + row * length_, window);
  return {.tokens = {window.begin(), window.end() - 1},
          .targets = {window.begin() + 1, window.end()},
          .positions = {}};
}

// ---- documents
// -----------------------------------------------------------------------------------

DocumentRows::DocumentRows(std::shared_ptr<const DocumentStore> store, std::uint64_t first,
                           std::uint64_t documents, const RowLayout& layout)
    : store_(std::move(store)), layout_(layout) {
  counts_.documents = documents;
  for (std::uint64_t i = first; i < first + documents; ++i) add_parts_of(i);
  if (layout_.packs) {
    pack();
  } else {
    row_ends_.resize(parts_.size());
    std::iota(row_ends_.begin(), row_ends_.end(), std::uint64_t{1});
  }
  std::uint64_t part = 0;
  for (const std::uint64_t end : row_ends_) {
    std::uint64_t& of_row = bearing_.emplace_back();
    for (; part < end; ++part) of_row += parts_[part].bearing;
  }
}

void DocumentRows::add_parts_of(std::uint64_t document) {
  const std::uint64_t length = store_->length(document);
  const auto most = static_cast<std::uint64_t>(layout_.length);
  std::vector<MarkedToken> tokens(length);
  store_->read(document, 0, tokens);
  const bool is_longer = length > most + 1;
  counts_.longer += is_longer ? 1 : 0;
  if (is_longer && !layout_.cuts_in_parts) counts_.lost_tokens += length - most - 1;
  if (length < 2) ++counts_.silent;
  for (std::uint64_t begin = 0; begin + 1 < length; begin += most) {
    const std::uint64_t inputs = std::min(most, length - 1 - begin);
    const auto at = tokens.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto bearing = std::count_if(at + 1, at + 1 + static_cast<std::ptrdiff_t>(inputs),
                                       [](const MarkedToken& token) { return token.bears; });
    if (bearing == 0) {
      ++counts_.silent;
    } else {
      parts_.push_back({.document = document,
                        .begin = begin,
                        .tokens = static_cast<std::uint32_t>(inputs),
                        .bearing = static_cast<std::uint32_t>(bearing)});
      counts_.tokens += inputs;
      counts_.bearing += static_cast<std::uint64_t>(bearing);
    }
    if (!layout_.cuts_in_parts) break;
  }
}

void DocumentRows::pack() {
  std::stable_sort(parts_.begin(), parts_.end(),
                   [](const Part& left, const Part& right) { return left.tokens > right.tokens; });
  std::vector<std::vector<Part>> rows;
  std::set<std::pair<std::uint64_t, std::size_t>> room;  // tokens, and the row
  for (const Part& part : parts_) {
    auto place = room.lower_bound({part.tokens, 0});
    std::size_t row = rows.size();
    std::uint64_t left = static_cast<std::uint64_t>(layout_.length);
    if (place == room.end()) {
      rows.emplace_back();
    } else {
      std::tie(left, row) = *place;
      room.erase(place);
    }
    rows[row].push_back(part);
    if (left > part.tokens) room.emplace(left - part.tokens, row);
  }
  parts_.clear();
  for (const std::vector<Part>& row : rows) {
    parts_.insert(parts_.end(), row.begin(), row.end());
    row_ends_.push_back(parts_.size());
  }
}

Row DocumentRows::row(std::uint64_t row) const {
  Row made;
  for (std::uint64_t i = row == 0 ? 0 : row_ends_[row - 1]; i < row_ends_[row]; ++i) {
    std::vector<MarkedToken> tokens(parts_[i].tokens + 1);
    store_->read(parts_[i].document, parts_[i].begin, tokens);
    for (std::size_t at = 0; at + 1 < tokens.size(); ++at) {
      made.tokens.push_back(tokens[at].id);
      made.targets.push_back(tokens[at + 1].bears ? std::int64_t{tokens[at + 1].id} : kNoLoss);
      if (layout_.packs) made.positions.push_back(static_cast<std::int64_t>(at));
    }
  }
  if (!layout_.packs) return made;
  for (std::int64_t at = 0; made.tokens.size() < static_cast<std::size_t>(layout_.length); ++at) {
    made.tokens.push_back(0);
    made.targets.push_back(kNoLoss);
    made.positions.push_back(at);
  }
  return made;
}

}  // namespace strata::tool
