#include "report.h"

#include <optional>
#include <ostream>

#include "output_file.h"
#include "report_page.h"
#include "run_record.h"
#include "strata/formats/chrome_trace.h"

namespace strata::tool {
namespace {

std::optional<TimelineRecord> trace_of(const std::filesystem::path& run) {
  const std::filesystem::path path = run / "trace.json.gz";
  if (!std::filesystem::exists(path)) return std::nullopt;
  return formats::read_chrome_trace(path);
}

}  // namespace

void report(const ReportOptions& options, std::ostream& out) {
  const RunRecord run = read_run(options.run);
  const std::optional<TimelineRecord> trace = trace_of(options.run);
  const std::filesystem::path path = options.output.value_or(options.run / "report.html");
  OutputFile page(path);
  page.stream() << report_page(run, trace ? &*trace : nullptr);
  page.publish();
  out << path.string() << std::endl;
}

}  // namespace strata::tool
