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
#include "strata/zero3/unit_layout.h"
#include "zero3/entry.h"
#include "zero3/flag_scope.h"
#include "zero3/shard_map.h"
#include "zero3/unit_intake.h"

namespace strata::zero3 {

/// One of a unit's flat vectors. LibTorch sees its storage: the parameters are views of it. It has
/// bytes while the unit is on the device and none otherwise.
struct FlatVector {
  bool trainable = false;
  StateFormat format;               ///< the run's, or fp32 in its place
  std::uint64_t count = 0;          ///< elements, padding included; often 0
  std::uint64_t bytes = 0;          ///< bytes in the weight's format
  ShardMap map{0, 1};               ///< elements that each rank keeps
  ElementRange shard;               ///< this rank's elements, those in its homes: all in stage 0
  std::uint64_t region_offset = 0;  ///< bytes, within the unit's device region
  c10::Storage storage;

  /// The homes of its states, as the optimizer sees them. A frozen vector has only a weight.
  optim_cpu::ShardStates states;
  /// The sum of squares of the gradient home, as of the last reduce.
  optim_cpu::SumOfSquares gradient_squares;

  [[nodiscard]] bool trains() const noexcept { return trainable && count > 0; }
  [[nodiscard]] const tiering::StateHome& weight() const noexcept { return states.weight; }
  [[nodiscard]] std::uint64_t bytes_of(std::uint64_t elements) const {
    return elements * weight_bytes(format.precision);
  }
  [[nodiscard]] std::uint64_t shard_bytes() const { return bytes_of(shard.count()); }
  /// Whether this rank's homes have the whole vector, as with one rank.
  [[nodiscard]] bool is_whole() const noexcept { return shard.count() == map.padded_count(); }
  /// The shards of all ranks.
  [[nodiscard]] std::uint64_t gathered_bytes() const { return bytes_of(map.padded_count()); }
  /// The elements of a parameter that this rank keeps; may be none.
  [[nodiscard]] ElementRange own_part(const ParameterLayout& parameter) const {
    const std::uint64_t end = parameter.offset + parameter.count;
    const std::uint64_t begin = std::clamp(parameter.offset, shard.begin, shard.end);
    return {begin, std::clamp(end, begin, shard.end)};
  }
  /// The place of this rank's shard in the unit's device region.
  [[nodiscard]] std::uint64_t shard_offset() const { return region_offset + bytes_of(shard.begin); }
};

using FlatVectors = std::array<FlatVector, 4>;

/// The place where a unit is used, and its user.
struct UnitPlace {
  c10::Device device;  ///< its parameters are there then
  int rank = 0;
  int world_size = 1;
  bool keeps_all = false;  ///< its homes have the whole vectors, not this rank's shard
};

/// A parameter with optimizer states. Empty ones have none.
struct TrainableParameter {
  torch::Tensor tensor;
  const ParameterLayout* layout;
  std::uint32_t group = 0;    ///< group of hyperparameters
  std::int64_t steps = 0;     ///< optimizer steps that it took part in
  bool has_gradient = false;  ///< had one in the step under way
};

class Entrance;
class ParameterRecord;
class StateEditor;

/// All that a unit knows of its engine. Valid as long as its handle can be locked.
struct UnitDoors {
  Entrance& entrance;   ///< serves its entries
  StateEditor& editor;  ///< reads and changes its states
};

/// The settings by which a unit is kept and run.
struct UnitRules {
  StateFormat format;                       ///< the run's format
  bool recomputes = false;                  ///< default for entries that do not say
  bool casts_inputs = false;                ///< floating inputs get the compute format
  std::vector<at::Generator> generators{};  ///< the module's own, beside LibTorch's
};

/// Patterns of full names of the parameters (and buffers) that a run treats unlike others.
struct NamePatterns {
  std::vector<std::string> fp32;    ///< kept in fp32 in a run of 16 bits; of buffers too
  std::vector<std::string> frozen;  ///< frozen for good, as those whose requires_grad is false
};

/// The parameters that are gathered and released together.
class Unit {
 public:
  /// Lays out the parts taken from a module. The parameters stay as they are until
  /// `adopt_parameters`.
  Unit(const UnitDoors& doors, UnitId id, std::string name, UnitIntake intake,
       const UnitPlace& place, UnitRules rules, const NamePatterns& patterns);

  [[nodiscard]] Entrance& entrance() const noexcept { return doors_.entrance; }
  [[nodiscard]] StateEditor& editor() const noexcept { return doors_.editor; }
  [[nodiscard]] UnitId id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return layout_.name; }
  [[nodiscard]] c10::Device device() const noexcept { return device_; }
  [[nodiscard]] const UnitLayout& layout() const noexcept { return layout_; }
  /// The format that its body computes in by default: the run's precision, or fp32 when all of its
  /// parameters are kept in that.
  [[nodiscard]] Precision compute_precision() const noexcept;
  /// In the layout's order.
  [[nodiscard]] const std::vector<torch::Tensor>& parameters() const noexcept {
    return parameters_;
  }
  /// The buffers of its module, with their names there.
  [[nodiscard]] const std::vector<NamedTensor>& buffers() const noexcept { return buffers_; }
  [[nodiscard]] const UnitRules& rules() const noexcept { return rules_; }
  /// In the layout's order.
  [[nodiscard]] std::vector<TrainableParameter>& trainables() noexcept { return trainables_; }
  [[nodiscard]] const std::vector<TrainableParameter>& trainables() const noexcept {
    return trainables_;
  }
  /// Whether any of its parameters wants a gradient now: they can be frozen for a while.
  [[nodiscard]] bool is_training() const;
  /// The flat vectors: trainable and frozen in the run's format, then in fp32; empty ones too.
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
  /// bytes so far. The memory of the module's own tensors is released. Buffers go to the device,
  /// those with floating numbers in the compute format, or in fp32 where they are kept in that.
  void adopt_parameters();
  /// Gives the flat vectors their bytes and the parameters their vectors: they can be read.
  /// `region` has region_bytes(), or is empty for a unit whose weights rest on the device.
  void attach(tiering::DeviceSpan region);
  /// Takes the bytes back: reading a parameter, or a tensor that shares its memory, is an error
  /// that names the unit.
  void detach();
  [[nodiscard]] bool is_attached() const noexcept { return attached_; }
  /// The region that it is attached to.
  [[nodiscard]] tiering::DeviceSpan region() const noexcept { return region_; }
  [[nodiscard]] std::uint64_t region_bytes() const noexcept { return region_bytes_; }
  /// Detaches as the engine goes away; errors say so.
  void abandon_parameters();
  /// Throws UsageError, after putting it right, when a parameter was given other data, another
  /// type or a gradient behind the engine's back, or was taken frozen and now wants a
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
  /// A hash of every parameter's bytes, for uses in which no change may go unseen. The unit is
  /// attached. Waits for the device unless that is host memory.
  [[nodiscard]] std::vector<std::size_t> hashes() const;
  /// Whether `parameter` is the view that the engine made of it.
  [[nodiscard]] bool is_in_place(std::size_t parameter) const;
  /// Makes `parameter` that view again, whatever it was given.
  void put_in_place(std::size_t parameter);
  /// Whether `tensor` shares memory with a parameter.
  [[nodiscard]] bool shares_memory(const torch::Tensor& tensor) const;
  /// Begins a scope in which autograd may hand out this unit's gradients. Outside of one a gradient
  /// that reaches a parameter is an error: it would be lost.
  [[nodiscard]] FlagScope taking_gradients() { return FlagScope(*taking_gradients_); }

  // ---- what its entries have shown ----
  /// Counts an entry whose gradients are wanted. True if it is watched: the first, second, fourth,
  /// ...
  [[nodiscard]] bool is_next_entry_watched();
  /// Whether its body enters other units that train.
  bool contains_training_units = false;
  /// Whether its module keeps tensors of its forward for longer: then every entry is watched.
  bool keeps_tensors = false;
  /// Whether a body or a visitor wrote to the device's copy, which is not to be kept then. The
  /// mover looks at it when the unit is left.
  bool spoiled = false;
  /// The number of changes of the weights. Graphs that forward left are of no use after a change.
  [[nodiscard]] std::uint64_t weights_version() const noexcept { return weights_version_; }
  void weights_changed();
  /// Inner graphs of this version between forward and backward, which hold views of the parameters.
  void keep_graph() { ++kept_graphs_; }
  void drop_graph(std::uint64_t version);

  /// The parameters as they were, while with_unsharded runs.
  ParameterRecord* visit = nullptr;

  // ---- what the optimizer sees (and the trainable vectors) ----
  /// Whether its gradient homes hold nothing of this step yet.
  bool gradient_empty = true;
  /// The sum of squares of all its gradients, as of the last reduce.
  [[nodiscard]] optim_cpu::SumOfSquares gradient_squares() const;
  /// Drops the gradients of the step under way.
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
  std::vector<bool> fp32_buffers_;  // whether each is kept in fp32
  std::vector<TrainableParameter> trainables_;
  FlatVectors vectors_;
  /// The storage of the parameters while the unit is sharded; refuses reads.
  c10::Storage sharded_storage_;
  bool attached_ = false;
  /// A stand-in for every trainable parameter's gradient; refuses reads.
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
