#include "dcp_files.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "strata/base/error.h"
#include "strata/formats/output_directory.h"
#include "strata/optim_cpu/convert.h"

namespace strata::tool {
namespace {

using formats::DType;
using formats::TensorInfo;
using OrderedJson = nlohmann::ordered_json;
using Parameter = CheckpointValues::Parameter;

/// Elements that pass through memory at a time; whole blocks of moments.
constexpr std::uint64_t kElementsAtOnce = 256 * 1024;

/// The names that PyTorch's optimizers have for their states; "" for none.
struct StateNames {
  const char* m;
  const char* v;
  bool counts_steps;
};

StateNames state_names(const std::string& optimizer) {
  if (optimizer == "sgd with momentum") return {"momentum_buffer", "", false};
  if (optimizer == "sgd") return {"", "", false};
  if (optimizer == "adagrad") return {"", "sum", true};
  if (optimizer == "lion") return {"exp_avg", "", false};
  if (optimizer == "adam" || optimizer == "adamw") return {"exp_avg", "exp_avg_sq", true};
  throw DataError("the checkpoint is of the optimizer '" + optimizer +
                  "', whose states have no names in PyTorch that are known here");
}

std::string file_name(std::size_t index, std::size_t count) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return text.data();
}

std::uint64_t tensor_bytes(const TensorInfo& tensor) {
  return tensor.elements() * formats::bits_of(tensor.dtype) / 8;
}

/// What HuggingFaceStorageWriter puts into the header: every tensor is whole, from its origin on.
formats::SafetensorsMetadata metadata_of(const std::vector<TensorInfo>& tensors) {
  OrderedJson offsets = OrderedJson::object();
  for (const TensorInfo& tensor : tensors) {
    offsets[tensor.name] = {{"saved_offsets", std::vector<std::int64_t>(tensor.shape.size(), 0)}};
  }
  return {{"DCP_SHARDING_INFO", offsets.dump()}, {"DCP_VERSION", "1.0"}, {"format", "pt"}};
}

}  // namespace

DcpFiles::DcpFiles(const CheckpointValues& values, Precision precision,
                   std::uint64_t file_bytes_max)
    : values_(values), precision_(precision) {
  const StateNames names = state_names(values.optimizer());
  std::uint64_t in_file = 0;
  const auto add = [&](std::string name, DType dtype, std::vector<std::int64_t> shape,
                       const Parameter& parameter, std::optional<StateKind> kind) {
    TensorInfo tensor{.name = std::move(name), .dtype = dtype, .shape = std::move(shape)};
    const std::uint64_t more = tensor_bytes(tensor);
    if (files_.empty() || (in_file > 0 && in_file + more > file_bytes_max)) {
      files_.emplace_back();
      in_file = 0;
    }
    in_file += more;
    files_.back().push_back({std::move(tensor), &parameter, kind});
  };
  for (const Parameter& parameter : values.parameters()) {
    add("model." + parameter.name, formats::dtype_of(precision), parameter.shape, parameter,
        StateKind::kWeight);
    if (!parameter.trainable) continue;
    const std::string state = "optim.state." + parameter.name + ".";
    for (const auto& [kind, name] : {std::pair{StateKind::kM, names.m}, {StateKind::kV, names.v}}) {
      if (!values.has(kind, parameter)) continue;
      add(state + name, DType::kF32, parameter.shape, parameter, kind);
    }
    if (names.counts_steps) add(state + "step", DType::kF32, {}, parameter, std::nullopt);
  }
}

std::uint64_t DcpFiles::bytes() const {
  std::uint64_t sum = 0;
  for (const std::vector<Source>& file : files_) {
    for (const Source& source : file) sum += tensor_bytes(source.tensor);
  }
  return sum;
}

void DcpFiles::write_file(const std::filesystem::path& path, const std::vector<Source>& sources,
                          const std::function<void()>& before_each_piece) const {
  std::vector<TensorInfo> tensors;
  tensors.reserve(sources.size());
  for (const Source& source : sources) tensors.push_back(source.tensor);
  const formats::SafetensorsMetadata metadata = metadata_of(tensors);
  formats::SafetensorsWriter out(path, std::move(tensors), metadata);
  std::vector<float> numbers;
  std::vector<std::byte> rounded;
  for (const Source& source : sources) {
    const Parameter& parameter = *source.parameter;
    if (!source.kind) {
      const auto steps = static_cast<float>(parameter.steps);
      out.append(std::as_bytes(std::span(&steps, 1)));
      continue;
    }
    for (std::uint64_t begin = 0; begin < parameter.count; begin += numbers.size()) {
      before_each_piece();
      numbers.resize(std::min(parameter.count - begin, kElementsAtOnce));
      if (source.kind != StateKind::kWeight) {
        values_.read_moments(*source.kind, parameter, begin, numbers);
        out.append(std::as_bytes(std::span(numbers)));
        continue;
      }
      values_.read_masters(parameter, begin, numbers);
      rounded.resize(numbers.size() * weight_bytes(precision_));
      optim_cpu::split_master(StateFormat(precision_), numbers, rounded.data(), nullptr);
      out.append(rounded);
    }
  }
  out.finish();
}

void DcpFiles::write(const std::filesystem::path& directory,
                     const std::function<void()>& before_each_piece) const {
  OrderedJson index = {{"metadata", {{"total_size", bytes()}}},
                       {"weight_map", OrderedJson::object()}};
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const std::string name = file_name(i, files_.size());
    write_file(directory / name, files_[i], before_each_piece);
    for (const Source& source : files_[i]) index["weight_map"][source.tensor.name] = name;
  }
  formats::write_text(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace strata::tool
