#include "zero3/unit.h"

#include <algorithm>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::zero3 {

namespace {

constexpr std::uint64_t kPage = 4096;

UnitLayout lay_out(const std::string& name, torch::nn::Module& module) {
  UnitLayout layout;
  layout.name = name;
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    layout.add(item.key(), tensor.sizes().vec(), tensor.requires_grad());
  }
  if (layout.parameters.empty()) {
    throw UsageError("unit '" + name + "' has no parameters: call its module as it is");
  }
  return layout;
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

Unit::Unit(Engine::Impl& engine, UnitId id, std::string name, torch::nn::Module& module,
           Precision precision)
    : engine_(engine), id_(id), precision_(precision), layout_(lay_out(name, module)) {
  for (const auto& item : module.named_parameters()) parameters_.push_back(item.value());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!layout_.parameters[i].trainable) continue;
    trainable_parameters_.push_back(parameters_[i]);
    trainable_layouts_.push_back(&layout_.parameters[i]);
  }
  trainable().count = layout_.trainable_count;
  frozen().count = layout_.frozen_count;
  for (FlatVector& vector : vectors_) {
    vector.bytes = vector.count * weight_bytes(precision);
    vector.region_offset = region_bytes_;
    region_bytes_ += round_up(vector.bytes, kPage);
  }
}

void Unit::adopt_parameters() {
  torch::NoGradGuard no_grad;
  const auto storage_without_bytes = [](std::uint64_t bytes) {
    return c10::Storage(c10::Storage::use_byte_size_t(), bytes, at::DataPtr(nullptr, torch::kCPU),
                        /*allocator=*/nullptr, /*resizable=*/false);
  };
  for (FlatVector& vector : vectors_) vector.storage = storage_without_bytes(vector.bytes);
  sharded_storage_ = storage_without_bytes(std::max(trainable().bytes, frozen().bytes));
  sharded_storage_.unsafeGetStorageImpl()->release_data_and_set_meta_custom_data_ptr_error_msg_(
      "A parameter of unit '" + name() +
      "' was read while the unit is sharded. Use it inside the unit's run(), or look at it in "
      "with_unsharded().");
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const ParameterLayout& parameter = layout_.parameters[i];
    const torch::Tensor view = torch::empty({0}, torch::dtype(scalar_type(precision_)));
    view.unsafeGetTensorImpl()->set_storage_keep_dtype(sharded_storage_);
    view.unsafeGetTensorImpl()->set_storage_offset(static_cast<std::int64_t>(parameter.offset));
    view.unsafeGetTensorImpl()->set_sizes_contiguous(parameter.shape);
    // In place, so that every handle on the parameter sees it; set_data would refuse a change of
    // device (modules of models larger than memory are built on the meta device).
    parameters_[i].unsafeGetTensorImpl()->shallow_copy_from(view.getIntrusivePtr());
  }
}

void Unit::attach(std::span<std::byte> region) {
  for (FlatVector& vector : vectors_) {
    std::byte* data =
        region.empty() ? vector.weight.memory.data() : region.data() + vector.region_offset;
    vector.storage.unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(data, torch::kCPU));
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const FlatVector& vector = layout_.parameters[i].trainable ? trainable() : frozen();
    parameters_[i].unsafeGetTensorImpl()->set_storage_keep_dtype(vector.storage);
  }
}

void Unit::detach() {
  for (const torch::Tensor& parameter : parameters_) {
    parameter.unsafeGetTensorImpl()->set_storage_keep_dtype(sharded_storage_);
  }
  for (FlatVector& vector : vectors_) {
    vector.storage.unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(nullptr, torch::kCPU));
  }
}

void Unit::to_fetching() {
  STRATA_CHECK(residency_ == Residency::kSharded, "unit " + name());
  residency_ = Residency::kFetching;
}

void Unit::to_unsharded(std::span<std::byte> region, std::uint64_t tick) {
  STRATA_CHECK(residency_ == Residency::kSharded || residency_ == Residency::kFetching,
               "unit " + name());
  residency_ = Residency::kUnsharded;
  region_ = region;
  pins_ = 1;
  last_use_ = tick;
}

void Unit::pin(std::uint64_t tick) {
  STRATA_CHECK(residency_ == Residency::kUnsharded || residency_ == Residency::kCached,
               "unit " + name());
  residency_ = Residency::kUnsharded;
  ++pins_;
  last_use_ = tick;
}

void Unit::unpin() {
  STRATA_CHECK(residency_ == Residency::kUnsharded && pins_ > 0, "unit " + name());
  if (--pins_ == 0) residency_ = Residency::kCached;
}

void Unit::to_sharded() {
  STRATA_CHECK(residency_ == Residency::kCached || residency_ == Residency::kFetching,
               "unit " + name());
  residency_ = Residency::kSharded;
  region_ = {};
}

}  // namespace strata::zero3
