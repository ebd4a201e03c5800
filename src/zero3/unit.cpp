#include "zero3/unit.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/name_pattern.h"
#include "strata/tiering/checksum.h"

namespace strata::zero3 {

namespace {

constexpr std::uint64_t kPage = 4096;

UnitLayout lay_out(std::string name, const std::vector<NamedTensor>& parameters,
                   const NamePatterns& patterns) {
  UnitLayout layout;
  layout.name = std::move(name);
  for (const NamedTensor& parameter : parameters) {
    const std::string full_name = layout.full_name(parameter.name);
    const bool trains = parameter.tensor.requires_grad() &&
                        !formats::matches_any_pattern(patterns.frozen, full_name);
    layout.add(parameter.name, parameter.tensor.sizes().vec(), trains,
               formats::matches_any_pattern(patterns.fp32, full_name));
  }
  return layout;
}

/// Makes every read of `storage`, through whatever tensor, an error with these words.
void refuse_reads(const c10::Storage& storage, const std::string& words) {
  storage.unsafeGetStorageImpl()->release_data_and_set_meta_custom_data_ptr_error_msg_(words);
}

/// A tensor of this shape over `storage` from element `offset` on.
torch::Tensor view_of(const c10::Storage& storage, torch::ScalarType type, std::uint64_t offset,
                      const std::vector<std::int64_t>& shape) {
  torch::Tensor view = torch::empty({0}, torch::TensorOptions(type).device(storage.device()));
  c10::TensorImpl& impl = *view.unsafeGetTensorImpl();
  impl.set_storage_keep_dtype(storage);
  impl.set_storage_offset(static_cast<std::int64_t>(offset));
  impl.set_sizes_contiguous(shape);
  return view;
}

}  // namespace

torch::ScalarType scalar_type(Precision precision) {
  switch (precision) {
    case Precision::kFp32: return torch::kFloat32;
    case Precision::kBf16: return torch::kBFloat16;
    case Precision::kFp16: return torch::kFloat16;
  }
  return torch::kFloat32;
}

Unit::Unit(const UnitDoors& doors, UnitId id, std::string name, UnitIntake intake,
           const UnitPlace& place, UnitRules rules, const NamePatterns& patterns)
    : doors_(doors),
      id_(id),
      device_(place.device),
      rules_(std::move(rules)),
      layout_(lay_out(std::move(name), intake.parameters, patterns)),
      buffers_(std::move(intake.buffers)) {
  for (NamedTensor& parameter : intake.parameters) {
    parameters_.push_back(std::move(parameter.tensor));
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const ParameterLayout& parameter = layout_.parameters[i];
    if (parameter.trainable && parameter.count > 0) {
      trainables_.push_back({.tensor = parameters_[i], .layout = &parameter});
    }
  }
  for (const NamedTensor& buffer : buffers_) {
    fp32_buffers_.push_back(
        formats::matches_any_pattern(patterns.fp32, layout_.full_name(buffer.name)));
  }
  const std::array counts = {layout_.trainable_count, layout_.frozen_count,
                             layout_.fp32_trainable_count, layout_.fp32_frozen_count};
  for (std::size_t i = 0; i < vectors_.size(); ++i) {
    FlatVector& vector = vectors_[i];
    vector.trainable = i % 2 == 0;
    vector.format = i < 2 ? rules_.format : kept_in_fp32(rules_.format);
    vector.count = counts[i];
    vector.bytes = vector.bytes_of(vector.count);
    vector.map = ShardMap(vector.count, place.world_size);
    vector.shard =
        place.keeps_all ? ElementRange{0, vector.map.padded_count()} : vector.map.shard(place.rank);
    vector.region_offset = region_bytes_;
    region_bytes_ += round_up(vector.gathered_bytes(), kPage);
  }
}

Precision Unit::compute_precision() const noexcept {
  return layout_.trainable_count + layout_.frozen_count == 0 ? Precision::kFp32
                                                             : rules_.format.precision;
}

bool Unit::is_training() const {
  return std::any_of(trainables_.begin(), trainables_.end(),
                     [](const TrainableParameter& p) { return p.tensor.requires_grad(); });
}

void Unit::adopt_parameters() {
  torch::NoGradGuard no_grad;
  std::uint64_t most_bytes = 0;
  for (FlatVector& vector : vectors_) {
    vector.storage = storage_without_bytes(vector.bytes);
    most_bytes = std::max(most_bytes, vector.bytes);
  }
  sharded_storage_ = storage_without_bytes(most_bytes);
  refuse_reads(sharded_storage_,
               "A parameter of unit '" + name() +
                   "' was read while the unit is sharded. Use it inside the unit's run(), or look "
                   "at it in with_unsharded().");
  gradient_stubs_.resize(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    adopt(i);
    if (!layout_.parameters[i].trainable) parameters_[i].set_requires_grad(false);
    if (layout_.parameters[i].trainable && layout_.parameters[i].count > 0) watch_gradient(i);
  }
  for (std::size_t i = 0; i < buffers_.size(); ++i) adopt_buffer(i);
}

void Unit::adopt_buffer(std::size_t buffer) {
  const torch::Tensor& tensor = buffers_[buffer].tensor;
  torch::TensorOptions wanted(device_);
  if (rules_.format.precision != Precision::kFp32 && tensor.is_floating_point()) {
    wanted =
        wanted.dtype(scalar_type(fp32_buffers_[buffer] ? Precision::kFp32 : compute_precision()));
  }
  const torch::Tensor converted = tensor.to(wanted);
  if (!converted.is_same(tensor)) {
    tensor.unsafeGetTensorImpl()->shallow_copy_from(converted.getIntrusivePtr());
  }
}

c10::Storage Unit::storage_without_bytes(std::uint64_t bytes) const {
  return c10::Storage(c10::Storage::use_byte_size_t(), bytes, at::DataPtr(nullptr, device_),
                      /*allocator=*/nullptr, /*resizable=*/false);
}

void Unit::adopt(std::size_t parameter) {
  const ParameterLayout& layout = layout_.parameters[parameter];
  const torch::Tensor view =
      view_of(storage_of(parameter), scalar_type(vector_of(parameter).format.precision),
              layout.offset, layout.shape);
  // Done in place, so that every handle on the parameter sees it; set_data would refuse a change of
  // device (modules of models larger than memory are built on the meta device).
  parameters_[parameter].unsafeGetTensorImpl()->shallow_copy_from(view.getIntrusivePtr());
}

/// Lets nobody read, or lose, a gradient of the parameter: gradients that count are at their home.
void Unit::watch_gradient(std::size_t parameter) {
  const ParameterLayout& layout = layout_.parameters[parameter];
  const std::string full_name = layout_.full_name(layout);
  const Precision precision = vector_of(parameter).format.precision;
  const c10::Storage storage = storage_without_bytes(layout.count * weight_bytes(precision));
  refuse_reads(storage,
               "The gradient of parameter '" + full_name +
                   "' was asked for at the parameter, but it lies with the engine, which also "
                   "clips (gradient_clipping in the config) and updates: read it with "
                   "Engine::visit_gradients, its norm with Engine::gradient_norms, and leave the "
                   "parameter out of other optimizers.");
  gradient_stubs_[parameter] = view_of(storage, scalar_type(precision), /*offset=*/0, layout.shape);
  const torch::Tensor& tensor = parameters_[parameter];
  tensor.mutable_grad() = gradient_stubs_[parameter];
  tensor.register_hook([taking = taking_gradients_, full_name](const torch::Tensor& gradient) {
    if (*taking) return gradient;
    throw UsageError(
        "a gradient reached parameter '" + full_name +
        "' from outside of its unit's run, where it would be lost: a tensor that the unit made was "
        "kept in a member (an auxiliary loss?) or the parameter was used outside; return that "
        "tensor from forward as another output, and compute with parameters inside run()");
  });
}

void Unit::attach(tiering::DeviceSpan region) {
  for (FlatVector& vector : vectors_) {
    const std::uintptr_t address =
        region.empty() ? vector.weight().device.address() : region.address() + vector.region_offset;
    vector.storage.unsafeGetStorageImpl()->set_data_ptr_noswap(
        at::DataPtr(reinterpret_cast<void*>(address), device_));
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].unsafeGetTensorImpl()->set_storage_keep_dtype(vector_of(i).storage);
  }
  attached_ = true;
  region_ = region;
}

void Unit::detach() {
  attached_ = false;
  region_ = {};
  for (const torch::Tensor& parameter : parameters_) {
    parameter.unsafeGetTensorImpl()->set_storage_keep_dtype(sharded_storage_);
  }
  for (FlatVector& vector : vectors_) {
    vector.storage.unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(nullptr, device_));
  }
  refuse_stale_views();
}

/// An inner graph reads its saved views again when the unit is back; nobody else may.
void Unit::refuse_stale_views() {
  if (attached_ || kept_graphs_ > 0) return;
  for (FlatVector& vector : vectors_) {
    if (vector.storage.use_count() == 1) continue;
    refuse_reads(vector.storage,
                 "A tensor that shares memory with a parameter of unit '" + name() +
                     "' was read after the unit had given that memory back. clone() what is to "
                     "be kept of a parameter beyond with_unsharded() or run().");
    vector.storage = storage_without_bytes(vector.bytes);
  }
}

void Unit::weights_changed() {
  ++weights_version_;
  kept_graphs_ = 0;
  refuse_stale_views();
}

void Unit::drop_graph(std::uint64_t version) {
  if (version != weights_version_) return;
  --kept_graphs_;
  refuse_stale_views();
}

void Unit::abandon_parameters() {
  if (attached_) detach();
  weights_changed();
  refuse_reads(sharded_storage_, "A parameter of unit '" + name() +
                                     "' was read after its engine was gone, and with it the "
                                     "parameter's values.");
}

const c10::Storage& Unit::storage_of(std::size_t parameter) const {
  return attached_ ? vector_of(parameter).storage : sharded_storage_;
}

bool Unit::is_in_place(std::size_t parameter) const {
  const c10::TensorImpl& impl = *parameters_[parameter].unsafeGetTensorImpl();
  const ParameterLayout& layout = layout_.parameters[parameter];
  return impl.unsafe_storage().unsafeGetStorageImpl() ==
             storage_of(parameter).unsafeGetStorageImpl() &&
         impl.storage_offset() == static_cast<std::int64_t>(layout.offset) &&
         impl.sizes() == at::IntArrayRef(layout.shape) && impl.is_contiguous() &&
         parameters_[parameter].scalar_type() == scalar_type(vector_of(parameter).format.precision);
}

void Unit::put_in_place(std::size_t parameter) {
  torch::NoGradGuard no_grad;
  adopt(parameter);
}

void Unit::check_parameters() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const ParameterLayout& layout = layout_.parameters[i];
    const torch::Tensor& parameter = parameters_[i];
    const auto refuse = [&](const std::string& why) {
      throw UsageError("parameter '" + layout_.full_name(layout) + "' " + why);
    };
    if (!is_in_place(i)) {
      put_in_place(i);
      refuse(
          "was given other data (set_data, torch::load, to) while its unit was sharded; that is "
          "taken back. Do it inside with_unsharded(), or use load_state_dict()");
    }
    if (layout.count == 0) continue;
    if (!layout.trainable) {
      if (!parameter.requires_grad()) continue;
      parameter.unsafeGetTensorImpl()->set_requires_grad(false);
      refuse(
          "was frozen when it was given to shard(), so it has no optimizer states and cannot be "
          "trained now; shard it with requires_grad, and freeze it afterwards "
          "(set_requires_grad(false)) for as long as it is to rest");
    }
    torch::Tensor& gradient = parameter.mutable_grad();
    if (gradient.is_same(gradient_stubs_[i])) continue;
    const bool given = gradient.defined();
    gradient = gradient_stubs_[i];  // zero_grad() of a module takes it away
    if (given) {
      refuse(
          "was given a gradient, which the engine does not look at; its gradients come from "
          "Engine::backward");
    }
  }
}

std::vector<std::uint32_t> Unit::versions() const {
  std::vector<std::uint32_t> versions;
  versions.reserve(parameters_.size());
  for (const torch::Tensor& parameter : parameters_) {
    versions.push_back(static_cast<std::uint32_t>(parameter._version()));
  }
  return versions;
}

std::vector<std::size_t> Unit::changed_since(const std::vector<std::uint32_t>& versions,
                                             const std::vector<std::size_t>& hashes) const {
  const std::vector<std::size_t> now = hashes.empty() ? hashes : this->hashes();
  std::vector<std::size_t> changed;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (static_cast<std::uint32_t>(parameters_[i]._version()) != versions[i] || !is_in_place(i) ||
        (!hashes.empty() && now[i] != hashes[i])) {
      changed.push_back(i);
    }
  }
  return changed;
}

std::vector<std::size_t> Unit::hashes() const {
  std::vector<std::size_t> hashes;
  hashes.reserve(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!is_in_place(i)) {  // a parameter with other data is found without
      hashes.push_back(0);
      continue;
    }
    const torch::Tensor on_host = parameters_[i].detach().cpu();
    hashes.push_back(tiering::chunk_checksum(
        /*extent_id=*/0, i,
        {static_cast<const std::byte*>(on_host.const_data_ptr()), on_host.nbytes()}));
  }
  return hashes;
}

bool Unit::shares_memory(const torch::Tensor& tensor) const {
  if (!tensor.defined() || !tensor.has_storage()) return false;
  const c10::StorageImpl* const storage =
      tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
  return std::any_of(vectors_.begin(), vectors_.end(), [&](const FlatVector& vector) {
    return storage == vector.storage.unsafeGetStorageImpl();
  });
}

bool Unit::is_next_entry_watched() { return std::has_single_bit(++entries_); }

optim_cpu::SumOfSquares Unit::gradient_squares() const {
  optim_cpu::SumOfSquares sum;
  for (const FlatVector& vector : vectors_) sum.add(vector.gradient_squares);
  return sum;
}

void Unit::forget_gradients() {
  gradient_empty = true;
  for (TrainableParameter& parameter : trainables_) parameter.has_gradient = false;
}

}  // namespace strata::zero3
