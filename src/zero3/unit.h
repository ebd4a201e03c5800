#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "strata/optim_cpu/shard_states.h"
#include "strata/optim_cpu/sum_of_squares.h"
#include "strata/tiering/device_span.h"
#include "strata/tiering/state_home.h"
#include "strata/zero3/sharding.h"
#include "strata/zero3/unit_layout.h"
#include "zero3/entry.h"
#include "zero3/shard_map.h"
#include "zero3/unit_intake.h"

namespace strata::zero3 {

/// One of a unit's flat vectors. Its storage is what LibTorch sees: the parameters are views of it,
/// it has bytes while the unit is on the device and none otherwise.
struct FlatVector {
  bool trainable = false;
  StateFormat format;               ///< the run's, or fp32 in its place
  std::uint64_t count = 0;          ///< elements, padding included; often 0
  std::uint64_t bytes = 0;          ///< in the weight's format
  ShardMap map{0, 1};               ///< which rank keeps which of them
  ElementRange shard;               ///< those of this rank: its homes have so many elements
  std::uint64_t region_offset = 0;  ///< bytes, within the unit's device region
  c10::Storage storage;

  /// Where its states rest, as the optimizer sees them. A frozen vector has a weight alone.
  optim_cpu::ShardStates states;
  /// Of the gradient home, as of the last reduce.
  optim_cpu::SumOfSquares gradient_squares;

  [[nodiscard]] bool trains() const noexcept { return trainable && count > 0; }
  [[nodiscard]] const tiering::StateHome& weight() const noexcept { return states.weight; }
  [[nodiscard]] std::uint64_t bytes_of(std::uint64_t elements) const {
    return elements * weight_bytes(format.precision);
  }
  [[nodiscard]] std::uint64_t shard_bytes() const { return bytes_of(shard.count()); }
  /// The shards of all ranks.
  [[nodiscard]] std::uint64_t gathered_bytes() const { return bytes_of(map.padded_count()); }
  /// Those of a parameter's elements that this rank keeps; may be none.
  [[nodiscard]] ElementRange own_part(const ParameterLayout& parameter) const {
    const std::uint64_t end = parameter.offset + parameter.count;
    const std::uint64_t begin = std::clamp(parameter.offset, shard.begin, shard.end);
    return {begin, std::clamp(end, begin, shard.end)};
  }
  /// Where this rank's shard lies in the unit's device region.
  [[nodiscard]] std::uint64_t shard_offset() const { return region_offset + bytes_of(shard.begin); }
};

using FlatVectors = std::array<FlatVector, 4>;

/// Where a unit is used, and by whom.
struct UnitPlace {
  c10::Device device;  ///< its parameters are there then
  int rank = 0;
  int world_size = 1;
};

/// A parameter with optimizer states. Empty ones have none.
struct TrainableParameter {
  torch::Tensor tensor;
  const ParameterLayout* layout;
  std::uint32_t group = 0;    ///< of hyperparameters
  std::int64_t steps = 0;     ///< optimizer steps that it took part in
  bool has_gradient = false;  ///< in the step under way
};

class Entrance;
class ParameterRecord;
class StateEditor;

/// All that a unit knows of the engine that it belongs to, which outlives it.
struct UnitDoors {
  Entrance& entrance;   ///< for its entries
  StateEditor& editor;  ///< for who looks at what it holds, and changes it
};

/// How a unit is kept and run.
struct UnitRules {
  StateFormat format;                       ///< the run's
  std::vector<std::string> fp32_patterns;   ///< full names of what is kept in fp32 beside it
  bool recomputes = false;                  ///< its entries, where the call does not say
  bool casts_inputs = false;                ///< floating inputs get the compute format
  std::vector<at::Generator> generators{};  ///< of the module's own, beside LibTorch's
};

/// The parameters that are gathered and released together.
class Unit {
 public:
  /// Lays out what was taken of a module. The parameters' values stay as they are until
  /// `adopt_parameters`.
  Unit(const UnitDoors& doors, UnitId id, std::string name, UnitIntake intake,
       const UnitPlace& place, UnitRules rules);

  [[nodiscard]] Entrance& entrance() const noexcept { return doors_.entrance; }
  [[nodiscard]] StateEditor& editor() const noexcept { return doors_.editor; }
  [[nodiscard]] UnitId id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return layout_.name; }
  [[nodiscard]] c10::Device device() const noexcept { return device_; }
  [[nodiscard]] const UnitLayout& layout() const noexcept { return layout_; }
  /// What its body computes in where nothing says otherwise: the run's precision, or fp32 when all
  /// of its parameters are kept in that.
  [[nodiscard]] Precision compute_precision() const noexcept;
  /// In the layout's order.
  [[nodiscard]] const std::vector<torch::Tensor>& parameters() const noexcept {
    return parameters_;
  }
  /// Of its module, as named there.
  [[nodiscard]] const std::vector<NamedTensor>& buffers() const noexcept { return buffers_; }
  [[nodiscard]] const UnitRules& rules() const noexcept { return rules_; }
  /// In the layout's order.
  [[nodiscard]] std::vector<TrainableParameter>& trainables() noexcept { return trainables_; }
  [[nodiscard]] const std::vector<TrainableParameter>& trainables() const noexcept {
    return trainables_;
  }
  /// Whether a gradient of any of its parameters is wanted now: they can be frozen for a while.
  [[nodiscard]] bool is_training() const;
  /// Trainable and frozen in the run's format, then in fp32; those without elements too.
  [[nodiscard]] FlatVectors& vectors() noexcept { return vectors_; }
  [[nodiscard]] const FlatVectors& vectors() const noexcept { return vectors_; }
  [[nodiscard]] const FlatVector& vector_of(const ParameterLayout& parameter) const {
    return vectors_[(parameter.fp32 ? 2 : 0) + (parameter.trainable ? 0 : 1)];
  }
  [[nodiscard]] const FlatVector& vector_of(std::size_t parameter) const {
    return vector_of(layout_.parameters[parameter]);
  }

  // ---- what LibTorch sees ----
  /// Makes every parameter a view of its flat vector on the device, in the compute format, without
  /// bytes so far. What the module's own tensors held is released. Buffers go to the device, those
  /// with floating numbers in the compute format, or in fp32 where they are kept in that.
  void adopt_parameters();
  /// Gives the flat vectors their bytes and the parameters their vectors: they can be read.
  /// `region` has region_bytes(), or is empty for a unit whose weights rest on the device.
  void attach(tiering::DeviceSpan region);
  /// The reverse: reading a parameter, or a tensor that shares its memory, is an error that names
  /// the unit.
  void detach();
  [[nodiscard]] bool is_attached() const noexcept { return attached_; }
  /// What it is attached to.
  [[nodiscard]] tiering::DeviceSpan region() const noexcept { return region_; }
  [[nodiscard]] std::uint64_t region_bytes() const noexcept { return region_bytes_; }
  /// The engine goes away: as detach, and says so.
  void abandon_parameters();
  /// Throws UsageError, after putting it right, when a parameter was given other data, another
  /// type or a gradient behind the engine's back, or was frozen when it was taken and now wants a
  /// gradient.
  void check_parameters();
  /// The version counters of all parameters.
  [[nodiscard]] std::vector<std::uint32_t> versions() const;
  /// The parameters, by index in ascending order, that were written to in place or given other data
  /// since. Version counters tell, which data(), accessors and pointers go past; hashes, where they
  /// are given, tell of those too.
  [[nodiscard]] std::vector<std::size_t> changed_since(
      const std::vector<std::uint32_t>& versions,
      const std::vector<std::size_t>& hashes = {}) const;
  /// A hash of every parameter's bytes, for where that must not happen unseen. The unit is
  /// attached. Waits for the device where that is not host memory.
  [[nodiscard]] std::vector<std::size_t> hashes() const;
  /// Whether `parameter` is the view that the engine made of it.
  [[nodiscard]] bool is_in_place(std::size_t parameter) const;
  /// Makes it that view again, whatever it was given.
  void put_in_place(std::size_t parameter);
  /// Whether `tensor` shares memory with a parameter.
  [[nodiscard]] bool shares_memory(const torch::Tensor& tensor) const;
  /// Scope in which autograd may hand out this unit's gradients. Outside of it a gradient that
  /// reaches a parameter is an error: it would be lost.
  class GradientScope {
   public:
    explicit GradientScope(Unit& unit) : flag_(*unit.taking_gradients_), before_(flag_) {
      flag_ = true;
    }
    ~GradientScope() { flag_ = before_; }
    GradientScope(const GradientScope&) = delete;
    GradientScope& operator=(const GradientScope&) = delete;

   private:
    bool& flag_;
    bool before_;
  };

  // ---- what its entries have shown ----
  /// Entries whose gradients were wanted, counted by the call. True for those that are watched: the
  /// first, second, fourth, ...
  [[nodiscard]] bool is_next_entry_watched();
  /// Whether its body enters other units that train.
  bool contains_training_units = false;
  /// Whether its module keeps tensors of its forward beyond it: then every entry is watched.
  bool keeps_tensors = false;
  /// What the device holds was written to by the entry under way: it is not to be kept.
  bool spoiled = false;
  /// Counts how often the weights have changed. What forward left is of no use after a change.
  [[nodiscard]] std::uint64_t weights_version() const noexcept { return weights_version_; }
  void weights_changed();
  /// Inner graphs of this version between forward and backward, which hold views of the parameters.
  void keep_graph() { ++kept_graphs_; }
  void drop_graph(std::uint64_t version);

  /// While with_unsharded runs: how the parameters were.
  ParameterRecord* visit = nullptr;

  // ---- what the optimizer sees (and the trainable vectors) ----
  /// Its gradient homes hold nothing of this step yet.
  bool gradient_empty = true;
  /// Of all its gradients, as of the last reduce.
  [[nodiscard]] optim_cpu::SumOfSquares gradient_squares() const;
  /// Nothing of the step under way counts any more.
  void forget_gradients();

 private:
  void adopt(std::size_t parameter);
  void adopt_buffer(std::size_t buffer);
  [[nodiscard]] c10::Storage storage_without_bytes(std::uint64_t bytes) const;
  void refuse_stale_views();
  void watch_gradient(std::size_t parameter);
  [[nodiscard]] const c10::Storage& storage_of(std::size_t parameter) const;

  UnitDoors doors_;
  UnitId id_;
  c10::Device device_;
  UnitRules rules_;
  UnitLayout layout_;
  std::vector<torch::Tensor> parameters_;
  std::vector<NamedTensor> buffers_;
  std::vector<bool> fp32_buffers_;  // kept in fp32
  std::vector<TrainableParameter> trainables_;
  FlatVectors vectors_;
  /// The parameters' storage while the unit is sharded; refuses reads.
  c10::Storage sharded_storage_;
  bool attached_ = false;
  /// In the place of every trainable parameter's gradient; refuses reads.
  std::vector<torch::Tensor> gradient_stubs_;
  std::shared_ptr<bool> taking_gradients_ = std::make_shared<bool>(false);
  std::uint64_t entries_ = 0;
  std::uint64_t weights_version_ = 0;
  int kept_graphs_ = 0;
  std::uint64_t region_bytes_ = 0;
  tiering::DeviceSpan region_;
};

/// The scalar type of a weight.
[[nodiscard]] torch::ScalarType scalar_type(Precision precision);

}  // namespace strata::zero3
