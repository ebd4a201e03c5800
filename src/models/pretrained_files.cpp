#include "models/pretrained_files.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "models/checkpoint_names.h"
#include "models/tensor_names.h"
#include "models/text_part.h"
#include "strata/base/error.h"
#include "strata/formats/output_directory.h"
#include "strata/models/model_layout.h"
#include "strata/optim_cpu/convert.h"

namespace strata::models {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr std::uint64_t kCopiedBytes = 1u << 20;  // at a time

/// The word of config.json for the format of the weights.
std::string_view config_word(Precision precision) {
  switch (precision) {
    case Precision::kFp32: return "float32";
    case Precision::kBf16: return "bfloat16";
    case Precision::kFp16: return "float16";
  }
  return "float32";
}

/// The tensors of a model, in the order in which they are visited.
std::vector<formats::TensorInfo> tensors_of(const ModelConfig& config, Precision precision) {
  const formats::DType dtype = formats::dtype_of(precision);
  const TensorNames family = tensor_names(config);
  std::vector<formats::TensorInfo> tensors;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      tensors.push_back({.name = family.of_parameter(unit.full_name(parameter)),
                         .dtype = dtype,
                         .shape = parameter.shape,
                         .bytes = parameter.count * weight_bytes(precision)});
    }
  }
  return tensors;
}

void add(SavedFile& file, formats::TensorInfo tensor) {
  file.bytes += tensor.bytes;
  file.own.push_back(tensor.name);
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
    SavedFile& file =
        by_name[source.empty() ? directory.file_names().back() : directory.file_name_of(source)];
    add(file, std::move(tensor));
    if (!names.is_within()) continue;
    if (names.in_files(file.own.back()).empty()) {
      throw DataError(directory.path().string() + ": has no " + file.own.back() +
                      " within its larger model, so no name to write it by");
    }
    file.tensors.back().name = names.in_files(file.own.back());
  }
  for (const std::string& other : names.others()) {
    SavedFile& file = by_name[directory.file_name_of(other)];
    file.tensors.push_back(*directory.find(other));
    file.bytes += file.tensors.back().bytes;
  }
  std::vector<SavedFile> files;
  for (auto& [name, file] : by_name) {
    file.name = name;
    files.push_back(std::move(file));
  }
  return files;
}

const formats::ModelDirectory* directory_of(const SaveOptions& options) {
  return options.files_of != nullptr ? options.files_of : options.source;
}

const std::string& original_config_of(const SaveOptions& options) {
  return options.original_config.empty() && options.source ? options.source->config_text()
                                                           : options.original_config;
}

std::vector<SavedFile> plan_files(const ModelConfig& config,
                                  const std::vector<formats::TensorInfo>& tensors,
                                  const SaveOptions& options) {
  const formats::ModelDirectory* const directory = directory_of(options);
  const std::string& original = original_config_of(options);
  if (directory == nullptr && !original.empty() &&
      has_text_part(original, "the original config.json")) {
    throw ConfigError(
        "the original config.json is of a larger model, whose other tensors are to be kept; name "
        "the directory of the model that has them, or give the config of the language model alone");
  }
  if (directory == nullptr) return split_by_size(tensors, options.file_bytes_max);
  return split_as(*directory, tensors, tensor_names(config));
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

PretrainedFiles::PretrainedFiles(const ModelConfig& config, Precision precision,
                                 const fs::path& directory, const SaveOptions& options)
    : directory_(directory),
      others_(directory_of(options)),
      precision_(precision),
      tensors_(tensors_of(config, precision)),
      files_(plan_files(config, tensors_, options)) {
  formats::write_text(directory / "config.json",
                      config.to_json(config_word(precision), original_config_of(options)));
  if (options.source) copy_model_files(*options.source, directory);
  for (const SavedFile& file : files_) {
    const auto shared = std::make_shared<OpenFile>(OpenFile{directory / file.name, &file, {}});
    for (const std::string& name : file.own) by_tensor_[name] = shared;
  }
}

void PretrainedFiles::append(const std::string& name, std::span<const std::byte> bytes) {
  OpenFile& file = *by_tensor_.at(name);
  if (!file.writer) {
    file.writer = std::make_unique<formats::SafetensorsWriter>(file.path, file.layout->tensors);
  }
  STRATA_CHECK(file.layout->own[file.next] == name, name);
  file.writer->append(bytes);
  file.written += bytes.size();
  if (file.written < file.writer->tensors()[file.next].bytes) return;
  file.written = 0;
  if (++file.next == file.layout->own.size()) complete(file);
}

void PretrainedFiles::complete(OpenFile& file) const {
  std::vector<std::byte> piece;
  for (std::size_t i = file.layout->own.size(); i < file.layout->tensors.size(); ++i) {
    const formats::TensorInfo& tensor = file.layout->tensors[i];
    for (std::uint64_t begin = 0; begin < tensor.bytes; begin += piece.size()) {
      piece.resize(std::min<std::uint64_t>(kCopiedBytes, tensor.bytes - begin));
      others_->read_bytes(tensor.name, begin, piece);
      file.writer->append(piece);
    }
  }
  file.writer->finish();
  file.writer.reset();
}

void PretrainedFiles::append_rounded(const std::string& name, std::span<float> values,
                                     std::string_view of) {
  const StateFormat format(precision_);
  rounded_.resize(values.size() * weight_bytes(precision_));
  optim_cpu::split_master(format, values, rounded_.data(), nullptr);
  optim_cpu::join_master(format, rounded_.data(), nullptr, values);
  if (!std::ranges::all_of(values, [](float value) { return std::isfinite(value); })) {
    throw DataError("the parameter " + name + std::string(of) +
                    " holds values that are not finite in " + std::string(name_of(precision_)) +
                    ", so the model is not written; ask for a format with more range (fp32)");
  }
  append(name, rounded_);
}

void PretrainedFiles::finish() {
  for (const SavedFile& file : files_) {
    if (!file.own.empty()) continue;
    const fs::path path = directory_ / file.name;
    OpenFile open{path, &file, std::make_unique<formats::SafetensorsWriter>(path, file.tensors)};
    complete(open);
  }
  if (files_.size() > 1 || files_.front().name != kSingleFile) {
    formats::write_text(directory_ / "model.safetensors.index.json", index_text(files_));
  }
}

}  // namespace strata::models
