#include "zero3/checkpoint/rank_file.h"

#include <cstdint>
#include <cstdio>
#include <mutex>
#include <optional>
#include <span>

#include "strata/base/error.h"
#include "strata/formats/safetensors.h"
#include "strata/formats/writable_file.h"
#include "zero3/unit.h"

namespace strata::zero3 {
namespace {

using formats::DType;

std::optional<DType> dtype_of(torch::ScalarType type) {
  switch (type) {
    case torch::kBool: return DType::kBool;
    case torch::kUInt8: return DType::kU8;
    case torch::kInt8: return DType::kI8;
    case torch::kInt16: return DType::kI16;
    case torch::kInt32: return DType::kI32;
    case torch::kInt64: return DType::kI64;
    case torch::kFloat16: return DType::kF16;
    case torch::kBFloat16: return DType::kBF16;
    case torch::kFloat32: return DType::kF32;
    case torch::kFloat64: return DType::kF64;
    case torch::kComplexFloat: return DType::kC64;
    default: return std::nullopt;
  }
}

torch::Tensor generator_state(at::Generator generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

std::span<const std::byte> contents_of(const torch::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

/// The tensor `name` of a file, which looks like `like`; null: there is none.
std::optional<torch::Tensor> read_tensor(const formats::SafetensorsFile& file,
                                         const std::string& name, const torch::Tensor& like) {
  const formats::TensorInfo* const saved = file.find(name);
  if (saved == nullptr) return std::nullopt;
  if (saved->dtype != dtype_of(like.scalar_type()) || saved->shape != like.sizes().vec()) {
    throw DataError(file.path().string() + ": '" + name + "' is " + saved->description() +
                    ", and has another shape or type here; the checkpoint is of another model, or "
                    "of another version of LibTorch");
  }
  torch::Tensor value = torch::empty(like.sizes(), like.scalar_type());
  file.read(*saved, 0,
            {static_cast<std::byte*>(value.mutable_data_ptr()),
             static_cast<std::size_t>(value.nbytes())});
  return value;
}

}  // namespace

std::string RankFile::name_of(int rank) {
  char text[40];
  std::snprintf(text, sizeof text, "rank_%05d.safetensors", rank);
  return text;
}

std::vector<RankFile::Named<at::Generator>> RankFile::generators() const {
  std::vector<Named<at::Generator>> all = {
      {"random/cpu", at::globalContext().defaultGenerator(c10::Device(c10::kCPU))}};
  if (!device_.is_cpu()) {
    all.push_back({"random/device", at::globalContext().defaultGenerator(device_)});
  }
  for (const auto& unit : units_.all()) {
    const std::vector<at::Generator>& own = unit->rules().generators;
    for (std::size_t i = 0; i < own.size(); ++i) {
      all.push_back({"random/" + std::to_string(unit->id()) + "/" + std::to_string(i), own[i]});
    }
  }
  return all;
}

std::vector<RankFile::Named<torch::Tensor>> RankFile::buffers() const {
  std::vector<Named<torch::Tensor>> all;
  for (const auto& unit : units_.all()) {
    for (const NamedTensor& buffer : unit->buffers()) {
      // Units may have buffers of one full name, as no parameters have.
      all.push_back(
          {"buffer/" + std::to_string(unit->id()) + "/" + unit->layout().full_name(buffer.name),
           buffer.tensor});
    }
  }
  return all;
}

formats::Crc32 RankFile::write(const std::filesystem::path& path) const {
  std::vector<formats::TensorInfo> infos;
  std::vector<torch::Tensor> values;
  const auto add = [&](const std::string& name, const torch::Tensor& value) {
    values.push_back(value.detach().cpu().contiguous());
    const std::optional<DType> dtype = dtype_of(value.scalar_type());
    if (!dtype) {
      throw UsageError("save_checkpoint(): '" + name + "' is of type " +
                       std::string(c10::toString(value.scalar_type())) +
                       ", which safetensors does not have; keep it in another type");
    }
    infos.push_back({.name = name, .dtype = *dtype, .shape = value.sizes().vec()});
  };
  for (const auto& [name, generator] : generators()) add(name, generator_state(generator));
  for (const auto& [name, buffer] : buffers()) add(name, buffer);
  const formats::SafetensorsLayout layout =
      formats::lay_out_safetensors(std::move(infos), {}, path.string());
  formats::WritableFile file = formats::WritableFile::create(path);
  formats::Crc32 sum;
  const auto append = [&](std::span<const std::byte> bytes) {
    file.write(sum.bytes(), bytes);
    sum.add(bytes);
  };
  append(std::as_bytes(std::span(layout.head)));
  for (const torch::Tensor& value : values) append(contents_of(value));
  file.sync_and_close();
  return sum;
}

RankFile::Values RankFile::read(const std::filesystem::path& path, bool generators) const {
  const formats::SafetensorsFile file(path);
  Values values;
  if (generators) {
    for (const auto& [name, generator] : this->generators()) {
      if (auto state = read_tensor(file, name, generator_state(generator))) {
        values.generators.emplace_back(generator, *std::move(state));
      }
    }
  }
  for (const auto& [name, buffer] : buffers()) {
    auto value = read_tensor(file, name, buffer);
    if (!value) {
      throw DataError(path.string() + ": there is no '" + name +
                      "', which this engine has; the checkpoint is of another model");
    }
    values.buffers.emplace_back(buffer, *std::move(value));
  }
  return values;
}

void RankFile::apply(const Values& values) {
  const torch::NoGradGuard no_grad;
  for (const auto& [buffer, value] : values.buffers) {
    torch::Tensor target = buffer;
    target.copy_(value);
  }
  for (const auto& [generator, state] : values.generators) {
    at::Generator target = generator;
    const std::lock_guard<std::mutex> lock(target.mutex());
    target.set_state(state);
  }
}

}  // namespace strata::zero3
