#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// Line charts as SVG, to stand inside of an HTML page. Pure: series in, text out.

namespace strata::tool {

struct ChartPoint {
  double x = 0;
  double y = 0;
  std::string tooltip;  ///< shown on hover; "": none
};

struct Series {
  std::string name;
  std::vector<ChartPoint> points;  ///< points in ascending order of x
};

enum class AxisScale { kLinear, kLogarithmic };

struct Axis {
  std::string label;  ///< name with its unit: "GB/s"
  AxisScale scale = AxisScale::kLinear;
  std::function<std::string(double)> text =
      nullptr;  ///< text of a tick; empty: as few digits as tell it
  /// Ticks at the values that occur, for axes that were chosen from a few (1, 2, 4, 8, ...).
  bool ticks_at_values = false;
};

/// The way in which series are told apart.
enum class Palette {
  kCategories,  ///< series are kinds (engines)
  kSteps,       ///< series are steps of one quantity (block sizes): light to dark
};

struct Chart {
  std::string title;
  Axis x;
  Axis y;
  Palette palette = Palette::kCategories;
  std::vector<Series> series;
  bool markers = true;  ///< off for long series over time
  int width = 560;
  int height = 320;
};

/// The most series a chart may have; more are an error of the program.
inline constexpr std::size_t kSeriesMax = 8;

/// An `<svg>` whose colours are the custom properties of `chart_style()`. A linear axis begins at
/// 0. Points that cannot be drawn (not finite; not above 0 on a logarithmic axis) are left out, and
/// a chart without any says that there is no data.
[[nodiscard]] std::string render_svg(const Chart& chart);

/// Rules for a `<style>` element, once a page: colours for light and for dark.
[[nodiscard]] std::string chart_style();

/// `text` for HTML and SVG, as content and as the value of an attribute in double quotes. Control
/// characters, which no document may hold, become spaces.
[[nodiscard]] std::string escape_markup(std::string_view text);

}  // namespace strata::tool
