#pragma once

#include <torch/optim/optimizer.h>
#include <torch/optim/serialize.h>
#include <torch/serialize/archive.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <tuple>
#include <vector>

#include "strata/base/number_format.h"

namespace strata {

/// Hyperparameters of a parameter group, and how its states rest. Defaults are those of
/// torch::optim::AdamW.
struct CpuAdamOptions : public torch::optim::OptimizerCloneableOptions<CpuAdamOptions> {
  using Betas = std::tuple<double, double>;

  CpuAdamOptions(double lr = 1e-3);  // NOLINT(google-explicit-constructor): as LibTorch's own
  TORCH_ARG(double, lr) = 1e-3;
  TORCH_ARG(Betas, betas) = {0.9, 0.999};
  TORCH_ARG(double, eps) = 1e-8;
  TORCH_ARG(double, weight_decay) = 1e-2;
  TORCH_ARG(bool, decoupled) = true;  ///< AdamW; false: torch::optim::Adam's L2 term
  TORCH_ARG(MomentFormat, moments) = MomentFormat::kFp32;
  /// k24Bit is for bf16 parameters; fp16 and fp32 ones have fp32 masters whatever is said here.
  TORCH_ARG(MasterFormat, master) = MasterFormat::kFp32;

 public:
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
  double get_lr() const override;
  void set_lr(double lr) override;
};

/// The states of a parameter, kept from its first step on. Their bytes are those of
/// number_format.h: treat them as opaque.
struct CpuAdamParamState : public torch::optim::OptimizerCloneableParamState<CpuAdamParamState> {
  TORCH_ARG(std::int64_t, step) = 0;
  TORCH_ARG(torch::Tensor, master);      ///< the master's remainder; undefined for fp32
  TORCH_ARG(torch::Tensor, exp_avg);     ///< m; with int8 moments padded to whole blocks of 64
  TORCH_ARG(torch::Tensor, exp_avg_sq);  ///< v; padded like m

 public:
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
};

/// Adam and AdamW on the CPU for a LibTorch training loop: the arithmetic of hop 7 (see
/// optim_cpu/update.h) over parameters that lie in memory, without an engine.
///
///     strata::CpuAdam optimizer(model->parameters(), strata::CpuAdamOptions(3e-4));
///     optimizer.zero_grad(); loss_of(model).backward(); optimizer.step();
///
/// fp32 parameters with fp32 moments get the bits of torch::optim::AdamW (Adam) wherever LibTorch's
/// square root is exact. bf16 and fp16 parameters are trained with the master that the state keeps;
/// it is taken from the parameter in its first step, so an fp16 parameter that is overwritten later
/// goes on from its master, not from the new value: load weights first. What rests in fewer bits is
/// rounded stochastically by a hash of the parameter's number, the step and the element: the same
/// bits in every run and with any number of threads.
///
/// Parameter groups, LRSchedulers, closures and torch::save and torch::load work as with LibTorch's
/// optimizers; a training that resumes from an archive continues with the same bits. After a load
/// the groups have the archive's options, the state formats included.
/// Thread: any, one call at a time.
class CpuAdam : public torch::optim::Optimizer {
 public:
  /// `threads`: how many update; 0: as many as the process may use. Throws ConfigError for a
  /// hyperparameter out of range.
  explicit CpuAdam(const std::vector<torch::optim::OptimizerParamGroup>& param_groups,
                   CpuAdamOptions defaults = {}, int threads = 0);
  explicit CpuAdam(std::vector<torch::Tensor> params, CpuAdamOptions defaults = {},
                   int threads = 0);
  ~CpuAdam() override;

  /// Updates every parameter that has a gradient; returns the closure's loss. Throws, before
  /// anything is changed, UsageError for a parameter that is not a dense, contiguous fp32, bf16 or
  /// fp16 tensor on the CPU, for a gradient that is sparse or on another device, and for a state
  /// that does not fit its parameter (one loaded for another model); ConfigError as the
  /// constructor.
  torch::Tensor step(LossClosure closure = nullptr) override;

  void save(torch::serialize::OutputArchive& archive) const override;
  void load(torch::serialize::InputArchive& archive) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata
