#include "strata/models/adapter_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/random_values.h"
#include "strata/base/error.h"
#include "strata/formats/output_directory.h"
#include "strata/formats/safetensors.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/ranged_initializer.h"

namespace strata::models {

namespace {

/// Values of a model that come from `adapters` where they are an adapter's.
ParameterInitializer joined(const ParameterInitializer& base, RangedInitializer::Fill adapters) {
  const auto* const ranged = base.target<RangedInitializer>();
  STRATA_CHECK(ranged != nullptr, "values of a model come in blocks");
  return RangedInitializer(
      ranged->block_elements(),
      [of_base = ranged->fill(), adapters = std::move(adapters)](
          const std::string& name, std::uint64_t begin, std::span<float> values) {
        (is_adapter_parameter(name) ? adapters : of_base)(name, begin, values);
      });
}

/// The elements of a row of every adapter's A.
std::map<std::string, std::int64_t> widths_of(const ModelConfig& config) {
  std::map<std::string, std::int64_t> widths;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      const std::string name = unit.full_name(parameter);
      if (is_adapter_parameter(name)) widths.emplace(name, parameter.shape.back());
    }
  }
  return widths;
}

}  // namespace

ParameterInitializer with_new_adapters(const ModelConfig& config, const ParameterInitializer& base,
                                       std::uint64_t seed) {
  using Kind = InitialValues::Kind;
  const auto values_of = [widths = widths_of(config)](const std::string& name) -> InitialValues {
    if (name.ends_with(std::string(kLoraB) + ".weight")) return {Kind::kZeros};
    return {Kind::kUniform, 1.0 / std::sqrt(static_cast<double>(widths.at(name)))};
  };
  const ParameterInitializer adapters = random_values(seed, values_of);
  return joined(base, adapters.target<RangedInitializer>()->fill());
}

ParameterInitializer with_adapters_of(const AdapterDirectory& adapter,
                                      const ParameterInitializer& base) {
  return joined(base,
                [&adapter](const std::string& name, std::uint64_t begin, std::span<float> values) {
                  adapter.read_f32(name, begin, values);
                });
}

void write_adapter(CausalLm& model, const std::filesystem::path& directory,
                   std::string_view base_model, const BeforeEachPiece& before_each_piece) {
  const std::optional<LoraConfig> lora = lora_of(model.model_config());
  if (!lora) throw UsageError("a model without adapters has none to write; save_pretrained it");
  std::vector<formats::TensorInfo> tensors;
  std::vector<torch::Tensor> values;  // all adapters: as large as what is trained
  model.visit_parameter_rows([&](const std::string& name, const torch::Tensor& parameter) {
    if (before_each_piece) before_each_piece();
    if (!is_adapter_parameter(name)) return;
    const torch::Tensor value = parameter.detach().cpu().contiguous().clone();
    if (!torch::isfinite(value).all().item<bool>()) {
      throw DataError("the parameter " + name +
                      " holds values that are not finite, so the adapter is not written; lower the "
                      "learning rate, or train in a format with more range (bf16 for fp16)");
    }
    const bool is_fp32 = value.scalar_type() == torch::kFloat32;
    tensors.push_back({.name = peft_name(name),
                       .dtype = formats::dtype_of(is_fp32 ? Precision::kFp32 : model.precision()),
                       .shape = value.sizes().vec()});
    values.push_back(value);
  });
  formats::SafetensorsWriter out(directory / "adapter_model.safetensors", std::move(tensors));
  for (const torch::Tensor& value : values) {
    out.append(
        std::as_bytes(std::span(static_cast<const char*>(value.const_data_ptr()), value.nbytes())));
  }
  out.finish();
  formats::write_text(directory / "adapter_config.json", lora->to_json(base_model));
}

}  // namespace strata::models
