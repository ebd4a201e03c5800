#include "merge_adapter.h"

#include <ostream>

#include "strata/base/units.h"
#include "strata/formats/model_directory.h"
#include "strata/formats/output_directory.h"
#include "strata/models/adapter_checkpoint.h"
#include "strata/models/checkpoint.h"
#include "strata/models/model_layout.h"

namespace strata::tool {

void merge_adapter(const ExportOptions& options, std::ostream& out,
                   const Interruption& interruption) {
  const auto check = [&] { interruption.check(); };
  const formats::ModelDirectory base(*options.model);
  const models::AdapterDirectory adapter(options.checkpoint);
  const Precision precision = options.dtype.value_or(models::precision_of(base));
  const std::uint64_t bytes =
      models::parameter_count(models::checkpoint_config(base, check)) * weight_bytes(precision);
  formats::OutputDirectory output(options.output);
  output.require_space(bytes);
  models::write_merged(base, adapter, precision, output.path(), check);
  output.publish();
  out << options.output.string() << ": " << options.model->string() << " with the adapter of "
      << options.checkpoint.string() << ", " << format_bytes(bytes) << '\n';
}

}  // namespace strata::tool
