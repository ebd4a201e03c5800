#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace strata::support {

/// "" when every element of `markup` is closed in its turn; else what is wrong. `<meta>` and
/// `<!doctype>` need not be closed.
inline std::string unbalanced(std::string_view markup) {
  std::vector<std::string> open;
  for (std::size_t at = markup.find('<'); at != std::string_view::npos;
       at = markup.find('<', at + 1)) {
    const std::size_t end = markup.find('>', at);
    if (end == std::string_view::npos) return "a tag without an end";
    const std::string_view tag = markup.substr(at + 1, end - at - 1);
    const std::string name(tag.substr(0, tag.find_first_of(" \n/", 1)));
    if (tag.starts_with("!") || tag.ends_with("/") || name == "meta") continue;
    if (tag.front() != '/') {
      open.push_back(name);
    } else if (open.empty() || "/" + open.back() != tag) {
      return "</" + std::string(tag.substr(1)) + "> closes " + (open.empty() ? "" : open.back());
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back() + " is not closed";
}

}  // namespace strata::support
