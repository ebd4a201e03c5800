#include "strata/zero3/checkpoint_values.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/optim_cpu/convert.h"
#include "strata/optim_cpu/widen_moments.h"
#include "zero3/checkpoint/checkpoint_facts.h"

namespace strata {
namespace {

using formats::CheckpointManifest;
using formats::DType;
using formats::SafetensorsFile;
using formats::TensorInfo;

/// Elements that pass through memory at a time; whole blocks of moments.
constexpr std::uint64_t kElementsAtOnce = 256 * 1024;

[[noreturn]] void fail(const SafetensorsFile& file, const TensorInfo& tensor,
                       const std::string& why) {
  throw DataError(file.path().string() + ": tensor '" + tensor.name + "' is " +
                  tensor.description() + ", " + why);
}

Precision precision_named(const formats::JsonValue& value) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    if (value.as_string() == name_of(precision)) return precision;
  }
  value.fail("is no format that weights rest in");
}

/// The format of a weight, by the file.
std::optional<Precision> precision_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return Precision::kFp32;
    case DType::kBF16: return Precision::kBf16;
    case DType::kF16: return Precision::kFp16;
    default: return std::nullopt;
  }
}

/// How a weight and the rest of its master make one; nullopt where they do not.
std::optional<StateFormat> master_format(Precision weight, DType master) {
  StateFormat format(weight);
  if (weight == Precision::kBf16 && master == DType::kI16) return format;
  if (weight == Precision::kFp16 && master == DType::kF32) return format;
  if (weight != Precision::kBf16 || master != DType::kI8) return std::nullopt;
  format.master = MasterFormat::k24Bit;
  return format;
}

std::optional<MomentFormat> moment_format(DType dtype) {
  switch (dtype) {
    case DType::kF32: return MomentFormat::kFp32;
    case DType::kBF16: return MomentFormat::kBf16;
    case DType::kU8: return MomentFormat::kInt8;
    default: return std::nullopt;
  }
}

std::uint64_t bytes_of_an_element(DType dtype) { return formats::bits_of(dtype) / 8; }

/// Reads elements of a tensor, as they rest.
std::vector<std::byte> read_elements(const SafetensorsFile& file, const TensorInfo& tensor,
                                     std::uint64_t begin, std::uint64_t count) {
  const std::uint64_t each = bytes_of_an_element(tensor.dtype);
  std::vector<std::byte> bytes(count * each);
  file.read(tensor, begin * each, bytes);
  return bytes;
}

}  // namespace

CheckpointValues::CheckpointValues(const std::filesystem::path& checkpoint, bool moments,
                                   const std::function<void()>& before_each_piece) {
  const CheckpointManifest manifest = CheckpointManifest::read(checkpoint);
  formats::require_files(manifest);
  info_ = zero3::info_of(manifest);
  const formats::JsonValue states = manifest.section("states");
  precision_ = precision_named(states.at("precision"));
  optimizer_ = states.at("optimizer").as_string();

  std::vector<StateKind> kinds = {StateKind::kWeight, StateKind::kMaster};
  if (moments) kinds.insert(kinds.end(), {StateKind::kM, StateKind::kV});
  for (const StateKind kind : kinds) {
    const formats::CheckpointFile* const listed =
        manifest.find(std::string(name_of(kind)) + ".safetensors");
    if (listed == nullptr) continue;
    const std::filesystem::path path = checkpoint / listed->name;
    formats::require_checksum(
        manifest, *listed, formats::checksum_of(path, 0, listed->sum.bytes(), before_each_piece));
    files_.emplace(kind, SafetensorsFile(path));
  }
  if (!files_.contains(StateKind::kWeight)) {
    throw DataError((checkpoint / formats::kManifestName).string() +
                    ": names no weight.safetensors, which every checkpoint has");
  }

  std::set<std::string> frozen;
  for (const formats::JsonValue& name : manifest.section("frozen").elements()) {
    frozen.insert(name.as_string());
  }
  const formats::JsonValue steps = manifest.section("steps");
  std::map<std::string, std::int64_t> others;
  for (const auto& member : steps.at("but").members()) {
    others.emplace(member.key, member.value.as_int64());
  }
  for (const TensorInfo& tensor : file(StateKind::kWeight).tensors()) {
    Parameter parameter{.name = tensor.name,
                        .shape = tensor.shape,
                        .count = tensor.elements(),
                        .trainable = !frozen.contains(tensor.name)};
    if (parameter.trainable) {
      const auto other = others.find(tensor.name);
      parameter.steps = other == others.end() ? steps.at("all").as_int64() : other->second;
    }
    check_states(parameter);
    parameters_.push_back(std::move(parameter));
  }
}

const SafetensorsFile& CheckpointValues::file(StateKind kind) const { return files_.at(kind); }

const TensorInfo* CheckpointValues::find(StateKind kind, std::string_view name) const {
  const auto found = files_.find(kind);
  return found == files_.end() ? nullptr : found->second.find(name);
}

/// What is read later without a question: types that are understood, and shapes that agree.
void CheckpointValues::check_states(const Parameter& parameter) const {
  const TensorInfo& weight = *find(StateKind::kWeight, parameter.name);
  const auto precision = precision_of(weight.dtype);
  if (!precision) fail(file(StateKind::kWeight), weight, "which is no format of weights");
  const TensorInfo* const master = find(StateKind::kMaster, parameter.name);
  if (master != nullptr &&
      (master->shape != weight.shape || !master_format(*precision, master->dtype))) {
    fail(file(StateKind::kMaster), *master, "and its weight " + weight.description());
  }
  if (master == nullptr && parameter.trainable && *precision != Precision::kFp32) {
    fail(file(StateKind::kWeight), weight, "and there is no master to it");
  }
  for (const StateKind kind : {StateKind::kM, StateKind::kV}) {
    const TensorInfo* const moment = find(kind, parameter.name);
    if (moment == nullptr) continue;
    const auto format = moment_format(moment->dtype);
    const std::uint64_t elements = format == MomentFormat::kInt8
                                       ? round_up(parameter.count, kMomentBlockElements)
                                       : parameter.count;
    if (!format || moment->elements() != elements) {
      fail(file(kind), *moment, "and its weight " + weight.description());
    }
  }
}

bool CheckpointValues::has(StateKind moment, const Parameter& parameter) const {
  return find(moment, parameter.name) != nullptr;
}

void CheckpointValues::read_masters(const Parameter& parameter, std::uint64_t begin,
                                    std::span<float> out) const {
  const TensorInfo* const weight = find(StateKind::kWeight, parameter.name);
  if (weight == nullptr) throw UsageError("read_masters: there is no " + parameter.name);
  const Precision precision = *precision_of(weight->dtype);
  const TensorInfo* const master = find(StateKind::kMaster, parameter.name);
  const StateFormat format =
      master == nullptr ? StateFormat(precision) : *master_format(precision, master->dtype);
  while (!out.empty()) {
    const std::span<float> piece = out.first(std::min<std::size_t>(out.size(), kElementsAtOnce));
    const auto weights = read_elements(file(StateKind::kWeight), *weight, begin, piece.size());
    std::vector<std::byte> rest;
    if (master != nullptr) {
      rest = read_elements(file(StateKind::kMaster), *master, begin, piece.size());
    }
    optim_cpu::join_master(format, weights.data(), master == nullptr ? nullptr : rest.data(),
                           piece);
    begin += piece.size();
    out = out.subspan(piece.size());
  }
}

void CheckpointValues::read_moments(StateKind moment, const Parameter& parameter,
                                    std::uint64_t begin, std::span<float> out) const {
  const TensorInfo* const tensor = find(moment, parameter.name);
  if (tensor == nullptr || begin % kMomentBlockElements != 0) {
    throw UsageError("read_moments: " + parameter.name + " has no " + std::string(name_of(moment)) +
                     " from element " + std::to_string(begin) + " on");
  }
  const MomentFormat format = *moment_format(tensor->dtype);
  while (!out.empty()) {
    const std::span<float> piece = out.first(std::min<std::size_t>(out.size(), kElementsAtOnce));
    const std::uint64_t at_rest =
        format == MomentFormat::kInt8 ? round_up(piece.size(), kMomentBlockElements) : piece.size();
    const auto bytes = read_elements(file(moment), *tensor, begin, at_rest);
    optim_cpu::widen_moments(format, moment, bytes.data(), piece);
    begin += piece.size();
    out = out.subspan(piece.size());
  }
}

}  // namespace strata
