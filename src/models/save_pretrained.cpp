#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/checkpoint_names.h"
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

constexpr const char* kSingleFile = "model.safetensors";

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

/// The tensors of a model, in the order in which they are visited.
std::vector<formats::TensorInfo> tensors_of(const CausalLm& model) {
  const formats::DType dtype = saved_format(model.precision()).dtype;
  const ModelConfig config = model.model_config();
  const TensorNames family = tensor_names(config);
  std::vector<formats::TensorInfo> tensors;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      tensors.push_back({.name = family.of_parameter(unit.full_name(parameter)),
                         .dtype = dtype,
                         .shape = parameter.shape,
                         .bytes = parameter.count * weight_bytes(model.precision())});
    }
  }
  return tensors;
}

void add(SavedFile& file, formats::TensorInfo tensor) {
  file.bytes += tensor.bytes;
  file.tensors.push_back(std::move(tensor));
}

/// Splits the tensors, in their order, into files of at most `file_bytes_max` (a larger one has a
/// file of its own).
std::vector<SavedFile> split_by_size(std::vector<formats::TensorInfo> tensors,
                                     std::uint64_t file_bytes_max) {
  std::vector<SavedFile> files(1);
  for (formats::TensorInfo& tensor : tensors) {
    if (!files.back().tensors.empty() && files.back().bytes + tensor.bytes > file_bytes_max) {
      files.emplace_back();
    }
    add(files.back(), std::move(tensor));
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, files.size());
    files[i].name = files.size() > 1 ? name : kSingleFile;
  }
  return files;
}

/// Puts each tensor into the file that it is read from. A tied head may stand for the embedding.
std::vector<SavedFile> split_as(const formats::ModelDirectory& directory,
                                std::vector<formats::TensorInfo> tensors,
                                const TensorNames& family) {
  const CheckpointNames names(directory, family);
  std::map<std::string, SavedFile> by_name;
  for (formats::TensorInfo& tensor : tensors) {
    std::string source = names.in_files(tensor.name);
    if (source.empty()) source = names.in_files(family.head);
    const std::string file =
        source.empty() ? directory.file_names().back() : directory.file_name_of(source);
    add(by_name[file], std::move(tensor));
  }
  std::vector<SavedFile> files;
  for (auto& [name, file] : by_name) {
    file.name = name;
    files.push_back(std::move(file));
  }
  return files;
}

std::vector<SavedFile> plan_files(const CausalLm& model, const SaveOptions& options) {
  const formats::ModelDirectory* const directory =
      options.files_of != nullptr ? options.files_of : options.source;
  if (directory == nullptr) return split_by_size(tensors_of(model), options.file_bytes_max);
  return split_as(*directory, tensors_of(model), tensor_names(model.model_config()));
}

/// Writes the parameters, as they are visited, whole or some rows at a time, each to its file.
class FileWriters {
 public:
  FileWriters(const fs::path& directory, const std::vector<SavedFile>& files) {
    for (const SavedFile& file : files) {
      const auto shared =
          std::make_shared<OpenFile>(OpenFile{directory / file.name, file.tensors, {}});
      for (const formats::TensorInfo& tensor : file.tensors) by_tensor_[tensor.name] = shared;
    }
  }

  void append(const std::string& name, const torch::Tensor& value) {
    OpenFile& file = *by_tensor_.at(name);
    if (!file.writer) {
      file.writer = std::make_unique<formats::SafetensorsWriter>(file.path, file.tensors);
    }
    STRATA_CHECK(file.writer->tensors()[file.next].name == name, name);
    const torch::Tensor on_host = value.detach().cpu().contiguous();
    file.writer->append(std::as_bytes(
        std::span(static_cast<const char*>(on_host.const_data_ptr()), on_host.nbytes())));
    file.written += on_host.nbytes();
    if (file.written < file.writer->tensors()[file.next].bytes) return;
    file.written = 0;
    if (++file.next == file.tensors.size()) {
      file.writer->finish();
      file.writer.reset();
    }
  }

 private:
  struct OpenFile {
    fs::path path;
    std::vector<formats::TensorInfo> tensors;
    std::unique_ptr<formats::SafetensorsWriter> writer;  ///< from its first tensor to its last
    std::size_t next = 0;                                ///< the tensor that is written next
    std::uint64_t written = 0;                           ///< bytes of that one
  };
  std::map<std::string, std::shared_ptr<OpenFile>> by_tensor_;
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
  const std::vector<SavedFile> files = plan_files(model, options);
  const std::string& original = options.original_config.empty() && options.source
                                    ? options.source->config_text()
                                    : options.original_config;
  formats::write_text(
      directory / "config.json",
      model.model_config().to_json(saved_format(model.precision()).config_name, original));
  if (options.source) copy_model_files(*options.source, directory);
  FileWriters writers(directory, files);
  model.visit_parameter_rows([&](const std::string& name, const torch::Tensor& parameter) {
    if (options.before_each_piece) options.before_each_piece();
    // Weights that a run of 16 bits keeps in fp32 are written in the format of the config.json.
    const bool is_fp32 = parameter.scalar_type() == torch::kFloat32;
    const torch::Tensor value = is_fp32 ? rounded_weight(parameter, model.precision()) : parameter;
    require_finite(name, value, model.precision());
    writers.append(name, value);
  });
  if (files.size() > 1 || files.front().name != kSingleFile) {
    formats::write_text(directory / "model.safetensors.index.json", index_text(files));
  }
}

void save_pretrained(CausalLm& model, const fs::path& directory, const SaveOptions& options) {
  formats::OutputDirectory out(directory);
  write_pretrained(model, out.path(), options);
  out.publish();
}

}  // namespace strata::models
