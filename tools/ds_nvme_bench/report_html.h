#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "result.h"

namespace strata::bench {

/// What a page shows, from top to bottom.
struct HtmlReport {
  std::string title;
  std::string summary;  ///< a sentence below it
  /// A large figure each: what it is, and the figure with its unit.
  std::vector<std::pair<std::string, std::string>> figures;
  std::vector<std::pair<std::string, std::string>> facts;  ///< machine and disk, name and value
  std::vector<std::string> notes;
  std::string config;  ///< JSON to paste; "": none
  std::optional<PointResult> time_line;
  std::vector<PointResult> points;
};

/// One page that needs nothing else: no network, no script, charts as SVG; for light and dark.
[[nodiscard]] std::string render_html(const HtmlReport& report);

}  // namespace strata::bench
