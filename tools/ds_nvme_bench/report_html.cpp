#include "report_html.h"

#include "html_page.h"
#include "number_text.h"
#include "strata/base/units.h"
#include "svg_chart.h"

namespace strata::nvme_bench {
namespace {

std::string facts_html(const HtmlReport& report) {
  std::string html;
  for (const auto& [name, value] : report.facts) {
    html +=
        "<dt>" + tool::escape_markup(name) + "</dt><dd>" + tool::escape_markup(value) + "</dd>\n";
  }
  return html.empty() ? "" : "<dl>\n" + html + "</dl>\n";
}

std::string notes_html(const HtmlReport& report) {
  std::string html;
  for (const std::string& note : report.notes)
    html += "<li>" + tool::escape_markup(note) + "</li>\n";
  return html.empty() ? "" : "<ul>\n" + html + "</ul>\n";
}

std::string charts_html(const HtmlReport& report) {
  std::string html;
  for (const tool::Chart& chart : charts_of(report.points))
    html += "<div>" + tool::render_svg(chart) + "</div>\n";
  return html.empty() ? "" : "<div class=\"charts\">\n" + html + "</div>\n";
}

std::string time_line_html(const HtmlReport& report) {
  if (!report.time_line || report.time_line->windows.size() < 2) return "";
  return tool::render_svg(time_line_of(*report.time_line));
}

std::string cell(const std::string& text, bool is_text = false) {
  return (is_text ? "<td class=\"text\">" : "<td>") + tool::escape_markup(text) + "</td>";
}

std::string direction_cells(const DirectionResult& direction) {
  if (direction.requests == 0 && direction.bytes == 0) return "<td></td><td></td><td></td>";
  const auto latency = [&](double percent) {
    return cell(latency_text(static_cast<double>(direction.latency.percentile(percent).count())));
  };
  return cell(fixed(direction.gigabytes_per_second(), 2)) + latency(50) + latency(99);
}

std::string table_html(const HtmlReport& report) {
  if (report.points.empty()) return "";
  std::string html =
      "<details><summary>" + std::to_string(report.points.size()) +
      " measurements, in the order in which they were made</summary>\n<div "
      "class=\"scroll\"><table>\n"
      "<tr><th class=\"text\">workload</th><th class=\"text\">engine</th><th>block</th>"
      "<th>depth</th><th>threads</th><th>read GB/s</th><th>p50</th><th>p99</th>"
      "<th>write GB/s</th><th>p50</th><th>p99</th><th>CPU s/GB</th><th>errors</th></tr>\n";
  for (const PointResult& result : report.points) {
    const Point& point = result.point;
    html += "<tr>" + cell(std::string(name_of(point.workload)), true) +
            cell(std::string(name_of(point.engine)), true) + cell(format_bytes(point.block_bytes)) +
            cell(std::to_string(point.depth)) + cell(std::to_string(point.threads)) +
            direction_cells(result.read) + direction_cells(result.write) +
            cell(compact(result.cpu_seconds_per_gigabyte())) +
            cell(std::to_string(result.read.errors + result.write.errors)) + "</tr>\n";
  }
  return html + "</table></div></details>\n";
}

}  // namespace

std::string render_html(const HtmlReport& report) {
  const std::string config =
      report.config.empty() ? "" : "<pre>" + tool::escape_markup(report.config) + "</pre>\n";
  return tool::html_page({.title = report.title,
                          .summary = report.summary,
                          .figures = report.figures,
                          .sections = {{"What makes the figures mean less", notes_html(report)},
                                       {"For the config", config},
                                       {"Over time", time_line_html(report)},
                                       {"Settings", charts_html(report)},
                                       {"Machine and disk", facts_html(report)},
                                       {"All measurements", table_html(report)}}});
}

}  // namespace strata::nvme_bench
