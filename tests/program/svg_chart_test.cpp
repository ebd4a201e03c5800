#include "svg_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>

#include "support/markup_balance.h"

namespace strata::tool::svg_chart_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Chart simple_chart() {
  return {.title = "Read throughput",
          .x = {.label = "depth", .scale = AxisScale::kLogarithmic, .ticks_at_values = true},
          .y = {.label = "GB/s"},
          .series = {{"1 MiB", {{1, 1.0, "one"}, {4, 3.0, "four"}, {16, 4.0, "sixteen"}}},
                     {"4 MiB", {{1, 2.0, ""}, {4, 4.5, ""}}}}};
}

/// The values of an attribute of all elements of a kind.
std::vector<double> values_of(const std::string& svg, const std::string& element,
                              const std::string& attribute) {
  std::vector<double> values;
  const std::regex pattern("<" + element + " [^>]*\\b" + attribute + "=\"([-0-9.]+)\"");
  for (std::sregex_iterator at(svg.begin(), svg.end(), pattern), end; at != end; ++at) {
    values.push_back(std::stod((*at)[1]));
  }
  return values;
}

TEST(SvgChart, IsWellFormedAndNamesAxesUnitsAndSeries) {
  const std::string svg = render_svg(simple_chart());
  EXPECT_EQ(support::unbalanced(svg), "");
  for (const char* text : {"Read throughput", "GB/s", "depth", "1 MiB", "4 MiB"}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
  EXPECT_THAT(svg, HasSubstr("<title>sixteen</title>"));
}

TEST(SvgChart, LogarithmicAxesSpaceFactorsEvenlyAndMoreIsHigherUp) {
  Chart chart = simple_chart();
  chart.series.pop_back();
  const std::string svg = render_svg(chart);
  const auto x = values_of(svg, "circle", "cx");
  const auto y = values_of(svg, "circle", "cy");
  ASSERT_EQ(x.size(), 3u);
  EXPECT_NEAR(x[1] - x[0], x[2] - x[1], 0.2);
  EXPECT_GT(y[0], y[1]);
  EXPECT_GT(y[1], y[2]);
}

TEST(SvgChart, ALinearAxisBeginsAtZero) {
  Chart chart = simple_chart();
  chart.series = {{"a", {{1, 100, ""}, {2, 50, ""}}}};
  const auto y = values_of(render_svg(chart), "circle", "cy");
  const double bottom = 320 - 46;
  EXPECT_NEAR((bottom - y[0]) / (bottom - y[1]), 2.0, 0.01);
}

TEST(SvgChart, EverythingLiesInsideOfThePicture) {
  const std::string svg = render_svg(simple_chart());
  for (const char* attribute : {"cx", "cy"}) {
    for (const double value : values_of(svg, "circle", attribute)) {
      EXPECT_GE(value, 0);
      EXPECT_LE(value, 560);
    }
  }
}

TEST(SvgChart, NamesOfLinesThatEndTogetherDoNotCoverEachOther) {
  Chart chart = simple_chart();
  chart.series.clear();
  for (int i = 0; i < 8; ++i)
    chart.series.push_back({"s" + std::to_string(i), {{1, 5, ""}, {2, 5, ""}}});
  const std::string svg = render_svg(chart);
  std::vector<double> places;
  const std::regex pattern("y=\"([0-9.]+)\" class=\"chart-name\"");
  for (std::sregex_iterator at(svg.begin(), svg.end(), pattern), end; at != end; ++at) {
    places.push_back(std::stod((*at)[1]));
  }
  ASSERT_EQ(places.size(), 8u);
  for (std::size_t i = 1; i < places.size(); ++i) EXPECT_GE(places[i] - places[i - 1], 12.9);
}

TEST(SvgChart, LeavesOutWhatCannotBeDrawn) {
  Chart chart = simple_chart();
  chart.series = {
      {"a",
       {{0, 1, ""}, {2, NAN, ""}, {4, std::numeric_limits<double>::infinity(), ""}, {8, 1, ""}}}};
  EXPECT_THAT(values_of(render_svg(chart), "circle", "cy").size(), 1u);
  chart.series.clear();
  EXPECT_THAT(render_svg(chart), HasSubstr("no data"));
  EXPECT_THAT(render_svg(chart), Not(HasSubstr("nan")));
}

TEST(SvgChart, EscapesEveryText) {
  const std::string evil = "<script>\"&'";
  Chart chart = simple_chart();
  chart.title = chart.x.label = chart.y.label = evil;
  chart.series[0].name = chart.series[1].name = evil;
  chart.series[0].points[0].tooltip = evil;
  const std::string svg = render_svg(chart);
  EXPECT_THAT(svg, Not(HasSubstr("<script")));
  EXPECT_EQ(support::unbalanced(svg), "");
}

}  // namespace
}  // namespace strata::tool::svg_chart_test
