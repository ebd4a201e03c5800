#include "export_checkpoint.h"

#include <memory>
#include <ostream>
#include <string>

#include "dcp_files.h"
#include "model_config_file.h"
#include "plural.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/formats/model_directory.h"
#include "strata/formats/output_directory.h"
#include "strata/models/export.h"
#include "strata/models/gpt2_config.h"
#include "strata/zero3/checkpoint_values.h"

namespace strata::tool {
namespace {

namespace fs = std::filesystem;

/// The checkpoint itself, of a directory of them the one that `latest` names.
fs::path checkpoint_at(const fs::path& path) {
  if (fs::exists(path / formats::kManifestName)) return path;
  if (const auto found = find_checkpoint(path)) return found->path;
  throw DataError(path.string() +
                  ": is no checkpoint (no manifest.json), and no directory of checkpoints (no "
                  "latest); finetune writes them to OUTPUT.checkpoints");
}

/// The model that was trained, as the command line names it.
struct ExportedModel {
  models::ModelConfig config;
  std::string config_text;
  std::unique_ptr<formats::ModelDirectory> directory;
};

ExportedModel named_model(const ExportOptions& options) {
  if (options.model) {
    auto directory = std::make_unique<formats::ModelDirectory>(*options.model);
    auto config =
        models::ModelConfig::from_json(directory->config_text(), directory->config_path().string());
    return {std::move(config), {}, std::move(directory)};
  }
  if (options.model_config) {
    std::string text = read_model_config(*options.model_config);
    auto config = models::ModelConfig::from_json(text, options.model_config->string());
    return {std::move(config), std::move(text), nullptr};
  }
  if (options.preset) return {models::Gpt2Config::preset(*options.preset), {}, nullptr};
  throw ConfigError(
      "a checkpoint does not hold the model's config: name the model that was trained with "
      "--model, --model-config or --preset, as finetune had it");
}

/// An upper bound of what is written, for the disk.
std::uint64_t bytes_of_weights(const CheckpointValues& values, Precision precision) {
  std::uint64_t elements = 0;
  for (const auto& parameter : values.parameters()) elements += parameter.count;
  return elements * weight_bytes(precision);
}

}  // namespace

void export_checkpoint(const ExportOptions& options, std::ostream& out,
                       const Interruption& interruption) {
  const auto check = [&] { interruption.check(); };
  const bool is_dcp = options.to == ExportTarget::kDcp;
  // What the command line names is looked at before any byte of states is.
  const ExportedModel model = is_dcp ? ExportedModel{} : named_model(options);
  const fs::path checkpoint = checkpoint_at(options.checkpoint);
  formats::OutputDirectory output(options.output);
  const CheckpointValues values(checkpoint, is_dcp, check);
  std::uint64_t bytes = 0;
  if (is_dcp) {
    const DcpFiles files(values, options.dtype.value_or(Precision::kFp32));
    bytes = files.bytes();
    output.require_space(bytes);
    files.write(output.path(), check);
  } else {
    const Precision precision = options.dtype.value_or(values.precision());
    bytes = bytes_of_weights(values, precision);
    output.require_space(bytes);
    models::write_pretrained(values, model.config, precision, output.path(),
                             {.original_config = model.config_text,
                              .source = model.directory.get(),
                              .before_each_piece = check});
  }
  output.publish();
  out << options.output.string() << ": " << counted(values.parameters().size(), "parameter")
      << " of " << checkpoint.string() << " (after " << counted(values.info().step, "step") << "), "
      << format_bytes(bytes) << '\n';
}

}  // namespace strata::tool
