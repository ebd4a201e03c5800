#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "overview.h"
#include "result.h"
#include "svg_chart.h"

namespace strata::nvme_bench {

/// The content of a page, from top to bottom.
struct HtmlReport {
  std::string title;
  std::string summary;  ///< a sentence below it
  /// Large figures: the name of each, and the figure with its unit.
  std::vector<std::pair<std::string, std::string>> figures;
  std::vector<std::pair<std::string, std::string>> facts;  ///< machine and disk, name and value
  std::vector<std::string> notes;
  std::string config;  ///< JSON to paste; "": none
  std::optional<PointResult> time_line;
  std::vector<PointResult> points;
};

/// One page that needs nothing else: no network, no script, charts as SVG; for light and dark.
[[nodiscard]] std::string render_html(const HtmlReport& report);

/// One measurement as a page.
[[nodiscard]] HtmlReport to_html_report(const Report& report);

/// The overview as a page, with the trials by which its settings were chosen. `reports` are not
/// empty.
[[nodiscard]] HtmlReport to_html_report(std::span<const NamedReport> reports,
                                        std::span<const PointResult> trials);

/// The charts of `points`: for each engine throughput over depth with a line per block size,
/// the 99th percentile of the latency over depth, and throughput over block size with a line per
/// engine; reads and writes apart. Charts with fewer than two places on the x axis are left out. A
/// setting measured several times is drawn at its median, and the best of several numbers of
/// threads.
[[nodiscard]] std::vector<tool::Chart> charts_of(std::span<const PointResult> points);

/// Throughput of both directions over the time of one measurement.
[[nodiscard]] tool::Chart time_line_of(const PointResult& point);

}  // namespace strata::nvme_bench
