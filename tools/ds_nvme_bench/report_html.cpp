#include "report_html.h"

#include "number_text.h"
#include "strata/base/units.h"
#include "svg_chart.h"

namespace strata::nvme_bench {
namespace {

constexpr const char* kStyle =
    ":root{color-scheme:light dark}\n"
    "body{margin:0 auto;max-width:1180px;padding:32px 20px 64px;background:var(--surface);"
    "color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:40px 0 12px}"
    "p{margin:0 0 12px;max-width:75ch}.quiet{color:var(--quiet)}\n"
    ".figures{display:flex;flex-wrap:wrap;gap:12px;margin:24px 0}"
    ".figure{flex:1 1 150px;border:1px solid var(--grid);border-radius:8px;padding:12px 16px}"
    ".figure b{display:block;font-size:24px;font-weight:600}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));"
    "gap:24px 20px}\n"
    "pre{border:1px solid var(--grid);border-radius:8px;padding:12px 16px;overflow-x:auto;"
    "font:13px/1.5 ui-monospace,monospace}\n"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;"
    "font-variant-numeric:tabular-nums;width:100%}"
    "th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--grid);"
    "white-space:nowrap}th{color:var(--quiet);font-weight:500}"
    "th.text,td.text{text-align:left}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:0}"
    "dt{color:var(--quiet)}dd{margin:0;overflow-wrap:anywhere}\n"
    "summary{cursor:pointer}li{max-width:75ch}\n";

std::string section(const std::string& heading, const std::string& content) {
  return content.empty() ? "" : "<h2>" + heading + "</h2>\n" + content;
}

std::string figures_html(const HtmlReport& report) {
  std::string html;
  for (const auto& [name, value] : report.figures) {
    html += "<div class=\"figure\"><span class=\"quiet\">" + escape_markup(name) + "</span><b>" +
            escape_markup(value) + "</b></div>\n";
  }
  return html.empty() ? "" : "<div class=\"figures\">\n" + html + "</div>\n";
}

std::string facts_html(const HtmlReport& report) {
  std::string html;
  for (const auto& [name, value] : report.facts) {
    html += "<dt>" + escape_markup(name) + "</dt><dd>" + escape_markup(value) + "</dd>\n";
  }
  return html.empty() ? "" : "<dl>\n" + html + "</dl>\n";
}

std::string notes_html(const HtmlReport& report) {
  std::string html;
  for (const std::string& note : report.notes) html += "<li>" + escape_markup(note) + "</li>\n";
  return html.empty() ? "" : "<ul>\n" + html + "</ul>\n";
}

std::string charts_html(const HtmlReport& report) {
  std::string html;
  for (const Chart& chart : charts_of(report.points))
    html += "<div>" + render_svg(chart) + "</div>\n";
  return html.empty() ? "" : "<div class=\"charts\">\n" + html + "</div>\n";
}

std::string time_line_html(const HtmlReport& report) {
  if (!report.time_line || report.time_line->windows.size() < 2) return "";
  return render_svg(time_line_of(*report.time_line));
}

std::string cell(const std::string& text, bool is_text = false) {
  return (is_text ? "<td class=\"text\">" : "<td>") + escape_markup(text) + "</td>";
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
  const std::string title = escape_markup(report.title);
  const std::string config =
      report.config.empty() ? "" : "<pre>" + escape_markup(report.config) + "</pre>\n";
  return "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>" +
         title + "</title>\n<style>\n" + chart_style() + kStyle +
         "</style>\n</head>\n<body>\n<h1>" + title + "</h1>\n<p class=\"quiet\">" +
         escape_markup(report.summary) + "</p>\n" + figures_html(report) +
         section("What makes the figures mean less", notes_html(report)) +
         section("For the config", config) + section("Over time", time_line_html(report)) +
         section("Settings", charts_html(report)) +
         section("Machine and disk", facts_html(report)) +
         section("All measurements", table_html(report)) + "</body>\n</html>\n";
}

}  // namespace strata::nvme_bench
