#pragma once

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "strata/optim_cpu/window_pipeline.h"
#include "strata/zero3/engine.h"
#include "strata/zero3/unit_layout.h"
#include "zero3/order_trace.h"

namespace strata::zero3 {

/// Where a unit's weights are, seen from the device. Transitions are Unit's `to_...` methods.
enum class Residency : std::uint8_t {
  kSharded,    ///< only at home
  kFetching,   ///< at home, and scheduled or on the way to the device
  kUnsharded,  ///< on the device, in use: its region must stay
  kCached,  ///< on the device, not in use: valid until evicted or until a step changes the weights
};

/// One of a unit's two flat vectors. Its storage is what LibTorch sees: the parameters are views of
/// it, it has bytes while the unit is on the device and none otherwise.
struct FlatVector {
  std::uint64_t count = 0;          ///< elements, padding included
  std::uint64_t bytes = 0;          ///< in the weight's format
  std::uint64_t region_offset = 0;  ///< bytes, within the unit's device region
  optim_cpu::StateHome weight;
  c10::Storage storage;
};

/// The parameters that are gathered and released together.
class Unit {
 public:
  /// Lays out `module`'s parameters. Their values stay as they are until `adopt_parameters`.
  Unit(Engine::Impl& engine, UnitId id, std::string name, torch::nn::Module& module,
       Precision precision);

  [[nodiscard]] Engine::Impl& engine() const noexcept { return engine_; }
  [[nodiscard]] UnitId id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return layout_.name; }
  [[nodiscard]] const UnitLayout& layout() const noexcept { return layout_; }
  /// In the layout's order.
  [[nodiscard]] const std::vector<torch::Tensor>& parameters() const noexcept {
    return parameters_;
  }
  /// The trainable ones, in the layout's order, and where each lies in the trainable vector.
  [[nodiscard]] const std::vector<torch::Tensor>& trainable_parameters() const noexcept {
    return trainable_parameters_;
  }
  [[nodiscard]] const std::vector<const ParameterLayout*>& trainable_layouts() const noexcept {
    return trainable_layouts_;
  }
  [[nodiscard]] FlatVector& trainable() noexcept { return vectors_[0]; }
  [[nodiscard]] FlatVector& frozen() noexcept { return vectors_[1]; }
  [[nodiscard]] std::array<FlatVector, 2>& vectors() noexcept { return vectors_; }

  /// Makes every parameter a view of its flat vector, in the compute format, without bytes so far.
  /// What the module's own tensors held is released.
  void adopt_parameters();
  /// Gives the flat vectors their bytes and the parameters their vectors: they can be read.
  /// `region` as for to_unsharded.
  void attach(std::span<std::byte> region);
  /// The reverse: reading a parameter is an error that names the unit.
  void detach();

  /// The optimizer's view of the trainable vector; homes are filled in by the engine.
  optim_cpu::ShardStates states;
  /// Its gradient home holds nothing of this step yet.
  bool gradient_empty = true;
  /// Of the gradient home, as of the last reduce.
  double gradient_sum_of_squares = 0.0;
  bool gradient_finite = true;

  // ---- residency ----
  [[nodiscard]] Residency residency() const noexcept { return residency_; }
  [[nodiscard]] std::span<std::byte> region() const noexcept { return region_; }
  [[nodiscard]] std::uint64_t region_bytes() const noexcept { return region_bytes_; }
  [[nodiscard]] std::uint64_t last_use() const noexcept { return last_use_; }
  void to_fetching();
  /// `region` empty: the weights rest on the device and need none.
  void to_unsharded(std::span<std::byte> region, std::uint64_t tick);
  /// One more use of a unit that is on the device.
  void pin(std::uint64_t tick);
  /// One use less; cached after the last.
  void unpin();
  void to_sharded();

 private:
  Engine::Impl& engine_;
  UnitId id_;
  Precision precision_;
  UnitLayout layout_;
  std::vector<torch::Tensor> parameters_, trainable_parameters_;
  std::vector<const ParameterLayout*> trainable_layouts_;
  std::array<FlatVector, 2> vectors_;
  c10::Storage
      sharded_storage_;  // the parameters' storage while the unit is sharded; refuses reads
  std::uint64_t region_bytes_ = 0;

  Residency residency_ = Residency::kSharded;
  std::span<std::byte> region_;
  int pins_ = 0;
  std::uint64_t last_use_ = 0;
};

/// The scalar type of a weight.
[[nodiscard]] torch::ScalarType scalar_type(Precision precision);

}  // namespace strata::zero3
