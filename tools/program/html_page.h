#pragma once

#include <string>
#include <utility>
#include <vector>

namespace strata::tool {

/// The content of a page, from top to bottom. Texts are plain; a section's content is markup.
struct HtmlPage {
  std::string title;
  std::string summary;  ///< a sentence below it
  /// Large figures: the name of each, and the figure with its unit.
  std::vector<std::pair<std::string, std::string>> figures;
  /// Headings and what stands below them; a section without content is left out.
  std::vector<std::pair<std::string, std::string>> sections;
};

/// One page that needs nothing else: no network and no script; for light and dark. Its style has
/// charts, `.charts` side by side, tables in `.scroll`, `dl` of names and values, and `.quiet`
/// text.
[[nodiscard]] std::string html_page(const HtmlPage& page);

}  // namespace strata::tool
