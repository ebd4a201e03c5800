#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/pretrained_files.h"
#include "strata/base/error.h"
#include "strata/models/adapter_checkpoint.h"
#include "strata/models/checkpoint.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/ranged_initializer.h"

namespace strata::models {

namespace {

/// Elements that pass through memory at a time, or a row where that is more.
constexpr std::uint64_t kMergedElements = 256 * 1024;

/// The way of a model's tensors into files, with its adapter.
class Merging {
 public:
  Merging(RangedInitializer::Fill base, const AdapterDirectory& adapter, PretrainedFiles& files,
          const BeforeEachPiece& before_each_piece)
      : base_(std::move(base)), adapter_(adapter), files_(files), check_(before_each_piece) {}

  /// Writes the parameter as the file's tensor `name`.
  void write(const std::string& name, const std::string& full_name,
             const zero3::ParameterLayout& parameter) {
    const bool is_adapted = adapts(full_name, parameter);
    const auto width =
        static_cast<std::uint64_t>(parameter.shape.empty() ? 1 : parameter.shape.back());
    const std::uint64_t rows =
        std::max<std::uint64_t>(1, kMergedElements / std::max<std::uint64_t>(width, 1));
    const std::string prefix = full_name.substr(0, full_name.rfind('.') + 1);
    if (is_adapted) {
      a_.resize(static_cast<std::uint64_t>(adapter_.config().rank) * width);
      adapter_.read_f32(prefix + kLoraA + ".weight", 0, a_);
    }
    for (std::uint64_t begin = 0; begin < parameter.count;) {
      values_.resize(std::min(parameter.count - begin, rows * width));
      base_(full_name, begin, values_);
      if (is_adapted) add_adapter(prefix + kLoraB + ".weight", begin / width, width);
      append(name);
      begin += values_.size();
    }
    if (parameter.count == 0) files_.append(name, {});
  }

 private:
  /// Whether it is the matrix of an adapted layer.
  [[nodiscard]] bool adapts(const std::string& full_name,
                            const zero3::ParameterLayout& parameter) const {
    constexpr std::string_view kWeight = ".weight";
    return parameter.shape.size() == 2 && parameter.name.ends_with(kWeight) &&
           adapter_.config().adapts(
               std::string_view(full_name).substr(0, full_name.size() - kWeight.size()));
  }

  /// Adds scale * B A to the rows in `values_`.
  void add_adapter(const std::string& name_of_b, std::uint64_t row, std::uint64_t width) {
    const auto rank = static_cast<std::uint64_t>(adapter_.config().rank);
    const std::uint64_t rows = values_.size() / width;
    const auto scale = static_cast<float>(adapter_.config().scale());
    b_.resize(rows * rank);
    adapter_.read_f32(name_of_b, row * rank, b_);
    product_.resize(width);
    for (std::uint64_t i = 0; i < rows; ++i) {
      std::ranges::fill(product_, 0.0f);
      for (std::uint64_t k = 0; k < rank; ++k) {
        const float factor = b_[i * rank + k];
        const float* const a = a_.data() + k * width;
        for (std::uint64_t j = 0; j < width; ++j) product_[j] += factor * a[j];
      }
      float* const w = values_.data() + i * width;
      for (std::uint64_t j = 0; j < width; ++j) w[j] += scale * product_[j];
    }
  }

  void append(const std::string& name) {
    if (check_) check_();
    files_.append_rounded(name, values_, " with the adapter of " + adapter_.path().string());
  }

  RangedInitializer::Fill base_;
  const AdapterDirectory& adapter_;
  PretrainedFiles& files_;
  const BeforeEachPiece& check_;
  std::vector<float> values_, a_, b_, product_;
};

}  // namespace

void write_merged(const formats::ModelDirectory& base, const AdapterDirectory& adapter,
                  Precision precision, const std::filesystem::path& directory,
                  const BeforeEachPiece& before_each_piece) {
  const ModelConfig config = checkpoint_config(base, before_each_piece);
  adapter.require_adapters_of(with_lora(config, adapter.config(), adapter.config_path().string()));
  const ParameterInitializer values = checkpoint_initializer(config, base, before_each_piece);
  PretrainedFiles files(config, precision, directory, {.source = &base});
  Merging merging(values.target<RangedInitializer>()->fill(), adapter, files, before_each_piece);
  std::size_t tensor = 0;  // in the order of the units
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      merging.write(files.tensors()[tensor++].name, unit.full_name(parameter), parameter);
    }
  }
  files.finish();
}

Precision precision_of(const formats::ModelDirectory& directory) {
  for (const std::string& name : directory.names()) {
    const formats::TensorInfo& tensor = *directory.find(name);
    if (tensor.shape.size() != 2) continue;
    for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
      if (tensor.dtype == formats::dtype_of(precision)) return precision;
    }
  }
  throw DataError(directory.path().string() + ": has no matrix in F32, F16 or BF16");
}

}  // namespace strata::models
