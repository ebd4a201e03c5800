#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/rounding.h"
#include "models/tensor_names.h"
#include "strata/base/error.h"
#include "strata/formats/output_directory.h"
#include "strata/formats/safetensors.h"
#include "strata/models/checkpoint.h"
#include "strata/models/model_layout.h"

namespace strata::models {

namespace {

namespace fs = std::filesystem;

struct SavedFormat {
  formats::DType dtype;
  std::string_view config_name;
};

SavedFormat saved_format(Precision precision) {
  switch (precision) {
    case Precision::kFp32: return {formats::DType::kF32, "float32"};
    case Precision::kBf16: return {formats::DType::kBF16, "bfloat16"};
    case Precision::kFp16: return {formats::DType::kF16, "float16"};
  }
  return {formats::DType::kF32, "float32"};
}

/// A safetensors file to be written.
struct SavedFile {
  std::string name;
  std::vector<formats::TensorInfo> tensors;
  std::uint64_t bytes = 0;
};

/// Splits the parameters, in the order of the units, into files of at most `file_bytes_max` (a
/// larger parameter has a file of its own).
std::vector<SavedFile> plan_files(const CausalLm& model, std::uint64_t file_bytes_max) {
  const formats::DType dtype = saved_format(model.precision()).dtype;
  const ModelConfig config = model.model_config();
  const TensorNames family = tensor_names(config);
  std::vector<SavedFile> files(1);
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      const std::uint64_t bytes = parameter.count * weight_bytes(model.precision());
      if (!files.back().tensors.empty() && files.back().bytes + bytes > file_bytes_max) {
        files.emplace_back();
      }
      files.back().tensors.push_back({.name = family.of_parameter(unit.full_name(parameter)),
                                      .dtype = dtype,
                                      .shape = parameter.shape});
      files.back().bytes += bytes;
    }
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    char name[64] = "model.safetensors";
    if (files.size() > 1) {
      std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, files.size());
    }
    files[i].name = name;
  }
  return files;
}

/// Writes the parameters, as they are visited, whole or some rows at a time, to one file after the
/// other.
class FileSequenceWriter {
 public:
  FileSequenceWriter(fs::path directory, const std::vector<SavedFile>& files)
      : directory_(std::move(directory)), files_(files) {}

  void append(const std::string& name, const torch::Tensor& value) {
    if (!writer_) {
      writer_ = std::make_unique<formats::SafetensorsWriter>(directory_ / files_[file_].name,
                                                             files_[file_].tensors);
    }
    STRATA_CHECK(writer_->tensors()[tensor_].name == name, name);
    const torch::Tensor on_host = value.detach().cpu().contiguous();
    writer_->append(std::as_bytes(
        std::span(static_cast<const char*>(on_host.const_data_ptr()), on_host.nbytes())));
    written_ += on_host.nbytes();
    if (written_ < writer_->tensors()[tensor_].bytes) return;
    written_ = 0;
    if (++tensor_ == files_[file_].tensors.size()) {
      writer_->finish();
      writer_.reset();
      tensor_ = 0;
      ++file_;
    }
  }

 private:
  fs::path directory_;
  const std::vector<SavedFile>& files_;
  std::size_t file_ = 0, tensor_ = 0;  ///< the next ones to be written
  std::uint64_t written_ = 0;          ///< bytes of that tensor
  std::unique_ptr<formats::SafetensorsWriter> writer_;
};

/// A model that computes nothing but NaN is not worth its name.
void require_finite(const std::string& name, const torch::Tensor& value, Precision precision) {
  if (torch::isfinite(value).all().item<bool>()) return;
  throw DataError("the parameter " + name + " holds values that are not finite in " +
                  std::string(name_of(precision)) +
                  ", so the model is not written; lower the learning rate, or train in a format "
                  "with more range (bf16 for fp16)");
}

/// The index: the file of every tensor, for models of more than one file.
std::string index_text(const std::vector<SavedFile>& files) {
  nlohmann::ordered_json index;
  std::uint64_t total = 0;
  for (const SavedFile& file : files) total += file.bytes;
  index["metadata"]["total_size"] = total;
  for (const SavedFile& file : files) {
    for (const formats::TensorInfo& tensor : file.tensors) {
      index["weight_map"][tensor.name] = file.name;
    }
  }
  return index.dump(2) + "\n";
}

}  // namespace

void write_pretrained(CausalLm& model, const fs::path& directory, const SaveOptions& options) {
  const std::vector<SavedFile> files = plan_files(model, options.file_bytes_max);
  const std::string& original = options.original_config.empty() && options.source
                                    ? options.source->config_text()
                                    : options.original_config;
  formats::write_text(
      directory / "config.json",
      model.model_config().to_json(saved_format(model.precision()).config_name, original));
  if (options.source) copy_model_files(*options.source, directory);
  FileSequenceWriter writer(directory, files);
  model.visit_parameter_rows([&](const std::string& name, const torch::Tensor& parameter) {
    if (options.before_each_piece) options.before_each_piece();
    // Weights that a run of 16 bits keeps in fp32 are written in the format of the config.json.
    const bool is_fp32 = parameter.scalar_type() == torch::kFloat32;
    const torch::Tensor value = is_fp32 ? rounded_weight(parameter, model.precision()) : parameter;
    require_finite(name, value, model.precision());
    writer.append(name, value);
  });
  if (files.size() > 1)
    formats::write_text(directory / "model.safetensors.index.json", index_text(files));
}

void save_pretrained(CausalLm& model, const fs::path& directory, const SaveOptions& options) {
  formats::OutputDirectory out(directory);
  write_pretrained(model, out.path(), options);
  out.publish();
}

}  // namespace strata::models
