#include "html_page.h"

#include "svg_chart.h"

namespace strata::tool {
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

std::string figures_html(const HtmlPage& page) {
  std::string html;
  for (const auto& [name, value] : page.figures) {
    html += "<div class=\"figure\"><span class=\"quiet\">" + escape_markup(name) + "</span><b>" +
            escape_markup(value) + "</b></div>\n";
  }
  return html.empty() ? "" : "<div class=\"figures\">\n" + html + "</div>\n";
}

std::string sections_html(const HtmlPage& page) {
  std::string html;
  for (const auto& [heading, content] : page.sections) {
    if (!content.empty()) html += "<h2>" + escape_markup(heading) + "</h2>\n" + content;
  }
  return html;
}

}  // namespace

std::string html_page(const HtmlPage& page) {
  const std::string title = escape_markup(page.title);
  return "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>" +
         title + "</title>\n<style>\n" + chart_style() + kStyle +
         "</style>\n</head>\n<body>\n<h1>" + title + "</h1>\n<p class=\"quiet\">" +
         escape_markup(page.summary) + "</p>\n" + figures_html(page) + sections_html(page) +
         "</body>\n</html>\n";
}

}  // namespace strata::tool
