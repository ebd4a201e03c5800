#pragma once

#include <span>

#include "overview.h"
#include "report_html.h"

namespace strata::bench {

/// One measurement as a page.
[[nodiscard]] HtmlReport to_html_report(const Report& report);

/// The overview as a page, with the trials by which its settings were chosen. `reports` are not
/// empty.
[[nodiscard]] HtmlReport to_html_report(std::span<const NamedReport> reports,
                                        std::span<const PointResult> trials);

}  // namespace strata::bench
