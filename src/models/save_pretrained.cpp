#include <span>
#include <string>

#include "models/pretrained_files.h"
#include "models/rounding.h"
#include "strata/base/error.h"
#include "strata/formats/output_directory.h"
#include "strata/models/checkpoint.h"
#include "strata/models/lora.h"

namespace strata::models {

namespace {

namespace fs = std::filesystem;

/// A model that computes nothing but NaN is not worth its name.
void require_finite(const std::string& name, const torch::Tensor& value, Precision precision) {
  if (torch::isfinite(value).all().item<bool>()) return;
  throw DataError("the parameter " + name + " holds values that are not finite in " +
                  std::string(name_of(precision)) +
                  ", so the model is not written; lower the learning rate, or train in a format "
                  "with more range (bf16 for fp16)");
}

std::span<const std::byte> bytes_of(const torch::Tensor& on_host) {
  return std::as_bytes(
      std::span(static_cast<const char*>(on_host.const_data_ptr()), on_host.nbytes()));
}

}  // namespace

void write_pretrained(CausalLm& model, const fs::path& directory, const SaveOptions& options) {
  if (lora_of(model.model_config())) {
    throw UsageError("a model with adapters is saved by write_adapter, and not whole");
  }
  PretrainedFiles files(model.model_config(), model.precision(), directory, options);
  model.visit_parameter_rows([&](const std::string& name, const torch::Tensor& parameter) {
    if (options.before_each_piece) options.before_each_piece();
    // Weights that a run of 16 bits keeps in fp32 are written in the format of the config.json.
    const bool is_fp32 = parameter.scalar_type() == torch::kFloat32;
    const torch::Tensor value = is_fp32 ? rounded_weight(parameter, model.precision()) : parameter;
    require_finite(name, value, model.precision());
    files.append(name, bytes_of(value.detach().cpu().contiguous()));
  });
  files.finish();
}

void save_pretrained(CausalLm& model, const fs::path& directory, const SaveOptions& options) {
  formats::OutputDirectory out(directory);
  write_pretrained(model, out.path(), options);
  out.publish();
}

}  // namespace strata::models
