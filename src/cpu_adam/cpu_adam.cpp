#include "strata/cpu_adam/cpu_adam.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/convert.h"
#include "strata/optim_cpu/update.h"

namespace strata {

using optim_cpu::part_of;
using optim_cpu::UpdateSpan;

namespace {

Precision precision_of(const torch::Tensor& tensor, const std::string& what) {
  switch (tensor.scalar_type()) {
    case torch::kFloat32: return Precision::kFp32;
    case torch::kBFloat16: return Precision::kBf16;
    case torch::kFloat16: return Precision::kFp16;
    default:
      throw UsageError("CpuAdam: " + what + " is of type " + c10::toString(tensor.scalar_type()) +
                       "; float32, bfloat16 and float16 can be trained");
  }
}

void check_parameter(const torch::Tensor& parameter, const std::string& what) {
  if (!parameter.device().is_cpu())
    throw UsageError("CpuAdam: " + what + " is on " + parameter.device().str() +
                     "; it trains parameters on the CPU");
  if (parameter.layout() != torch::kStrided || !parameter.is_contiguous())
    throw UsageError("CpuAdam: " + what +
                     " is not contiguous; give it parameters that are (tensor.contiguous())");
}

void check_gradient(const torch::Tensor& gradient, const std::string& what) {
  if (gradient.layout() != torch::kStrided)
    throw UsageError("CpuAdam: the gradient of " + what +
                     " is sparse; make it dense (an embedding with sparse(false))");
  if (!gradient.device().is_cpu())
    throw UsageError("CpuAdam: the gradient of " + what + " is on " + gradient.device().str());
}

optim::AdamOptions adam_options(const CpuAdamOptions& options) {
  return {.lr = options.lr(),
          .beta1 = std::get<0>(options.betas()),
          .beta2 = std::get<1>(options.betas()),
          .eps = options.eps(),
          .weight_decay = options.weight_decay(),
          .decoupled_weight_decay = options.decoupled()};
}

const CpuAdamOptions& options_of(const torch::optim::OptimizerParamGroup& group) {
  const auto* options = dynamic_cast<const CpuAdamOptions*>(&group.options());
  if (options == nullptr) throw UsageError("CpuAdam: a parameter group has no CpuAdamOptions");
  return *options;
}

StateFormat format_of(const CpuAdamOptions& options, Precision precision) {
  StateFormat format = precision;
  format.moments = options.moments();
  format.master = precision == Precision::kBf16 ? options.master() : MasterFormat::kFp32;
  return format;
}

torch::ScalarType moment_type(MomentFormat format) {
  return format == MomentFormat::kFp32   ? torch::kFloat32
         : format == MomentFormat::kBf16 ? torch::kBFloat16
                                         : torch::kInt8;
}

torch::ScalarType master_type(const StateFormat& format) {
  const std::uint64_t bytes = state_bytes(format, StateKind::kMaster);
  return bytes == 4 ? torch::kFloat32 : bytes == 2 ? torch::kInt16 : torch::kInt8;
}

std::int64_t moment_count(const StateFormat& format, std::int64_t count) {
  if (format.moments != MomentFormat::kInt8) return count;
  return static_cast<std::int64_t>(
      round_up(static_cast<std::uint64_t>(count), kMomentBlockElements));
}

std::unique_ptr<CpuAdamParamState> first_state(const StateFormat& format,
                                               const torch::Tensor& parameter) {
  auto state = std::make_unique<CpuAdamParamState>();
  const std::int64_t count = parameter.numel();
  if (format.precision == Precision::kFp16) {
    state->master(parameter.detach().to(torch::kFloat32).flatten());
  } else if (format.precision == Precision::kBf16) {
    state->master(torch::zeros({count}, master_type(format)));
  }
  const auto moments = torch::dtype(moment_type(format.moments));
  state->exp_avg(torch::zeros({moment_count(format, count)}, moments));
  state->exp_avg_sq(torch::zeros({moment_count(format, count)}, moments));
  return state;
}

void check_state(const StateFormat& format, const CpuAdamParamState& state, std::int64_t count,
                 const std::string& what) {
  const auto fits = [](const torch::Tensor& tensor, torch::ScalarType type, std::int64_t size) {
    return tensor.defined() && tensor.scalar_type() == type && tensor.numel() == size &&
           tensor.is_contiguous() && tensor.device().is_cpu();
  };
  const torch::ScalarType type = moment_type(format.moments);
  const bool has_master = format.precision != Precision::kFp32;
  if (!fits(state.exp_avg(), type, moment_count(format, count)) ||
      !fits(state.exp_avg_sq(), type, moment_count(format, count)) ||
      (has_master ? !fits(state.master(), master_type(format), count) : state.master().defined()))
    throw UsageError("CpuAdam: the state of " + what +
                     " is that of another parameter or format; load the archive of this model, "
                     "and leave a group's formats as they were in the first step");
}

/// A part of a parameter that one thread updates at once.
struct Piece {
  optim::AdamOptions options;
  optim_cpu::UpdateStep step;
  UpdateSpan span;

  void update() const {
    const std::size_t over =
        span.format.moments == MomentFormat::kInt8 ? span.count % kMomentBlockElements : 0;
    optim_cpu::update(options, step, part_of(span, 0, span.count - over));
    if (over > 0) update_end(part_of(span, span.count - over, over));
  }

 private:
  /// Updates less than a block of int8 moments. Those are padded; the rest is, here, for a while.
  void update_end(UpdateSpan end) const {
    alignas(64) std::byte weight[kMomentBlockElements * 4] = {};
    alignas(64) std::byte master[kMomentBlockElements * 4] = {};
    alignas(64) std::byte gradient[kMomentBlockElements * 4] = {};
    const std::size_t weight_size = end.count * state_bytes(end.format, StateKind::kWeight);
    const std::size_t master_size = end.count * state_bytes(end.format, StateKind::kMaster);
    std::memcpy(weight, end.weight, weight_size);
    if (master_size > 0) std::memcpy(master, end.master, master_size);
    std::memcpy(gradient, end.gradient, end.count * weight_bytes(end.gradient_format));
    UpdateSpan whole = end;
    whole.count = kMomentBlockElements;
    whole.weight = weight;
    whole.master = master_size > 0 ? master : nullptr;
    whole.gradient = gradient;
    optim_cpu::update(options, step, whole);
    std::memcpy(end.weight, weight, weight_size);
    if (master_size > 0) std::memcpy(end.master, master, master_size);
  }
};

/// One step over all parameters that have a gradient.
struct StepWork {
  std::vector<Piece> pieces;  ///< run in any order, on any threads
  std::vector<std::pair<torch::Tensor, CpuAdamParamState*>> parameters;
  std::vector<torch::Tensor> gradients;  ///< gradients that `pieces` point to

  void add(const optim::AdamOptions& options, const StateFormat& format, std::uint64_t sequence,
           const torch::Tensor& parameter, CpuAdamParamState& state) {
    gradients.push_back(parameter.grad().contiguous());
    parameters.emplace_back(parameter, &state);
    const UpdateSpan whole{.format = format,
                           .gradient_format = precision_of(gradients.back(), "a gradient"),
                           .count = static_cast<std::size_t>(parameter.numel()),
                           .weight = parameter.data_ptr(),
                           .master = state.master().defined() ? state.master().data_ptr() : nullptr,
                           .m = state.exp_avg().data_ptr(),
                           .v = state.exp_avg_sq().data_ptr(),
                           .gradient = gradients.back().const_data_ptr(),
                           .sequence = sequence};
    for (std::size_t begin = 0; begin < whole.count; begin += optim_cpu::kUpdateElementsAtOnce) {
      pieces.push_back(
          {options,
           {.step = state.step() + 1},
           part_of(whole, begin,
                   std::min<std::size_t>(optim_cpu::kUpdateElementsAtOnce, whole.count - begin))});
    }
  }

  void finish() const {
    for (const auto& [parameter, state] : parameters) {
      state->step(state->step() + 1);
      torch::autograd::impl::bump_version(parameter);
    }
  }
};

}  // namespace

// ---- options and states ------------------------------------------------------------------------

CpuAdamOptions::CpuAdamOptions(double lr) : lr_(lr) {}

double CpuAdamOptions::get_lr() const { return lr(); }
void CpuAdamOptions::set_lr(double lr) { this->lr(lr); }

void CpuAdamOptions::serialize(torch::serialize::OutputArchive& archive) const {
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(lr);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(betas);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(eps);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(weight_decay);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(decoupled);
  archive.write("moments", torch::IValue(std::string(name_of(moments()))));
  archive.write("master", torch::IValue(std::string(name_of(master()))));
}

void CpuAdamOptions::serialize(torch::serialize::InputArchive& archive) {
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, lr);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(Betas, betas);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, eps);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(double, weight_decay);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(bool, decoupled);
  const auto read = [&](const char* name, auto& field, auto... values) {
    torch::IValue word;
    archive.read(name, word);
    const bool known =
        ((word.toStringRef() == name_of(values) ? (field = values, true) : false) || ...);
    if (!known)
      throw CorruptData("CpuAdam: the archive names the format \"" + word.toStringRef() +
                        "\" for " + name + ", which this version does not know");
  };
  read("moments", moments(), MomentFormat::kFp32, MomentFormat::kBf16, MomentFormat::kInt8);
  read("master", master(), MasterFormat::kFp32, MasterFormat::k24Bit);
}

void CpuAdamParamState::serialize(torch::serialize::OutputArchive& archive) const {
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(step);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(master);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(exp_avg);
  _TORCH_OPTIM_SERIALIZE_TORCH_ARG(exp_avg_sq);
}

void CpuAdamParamState::serialize(torch::serialize::InputArchive& archive) {
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(std::int64_t, step);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(torch::Tensor, master);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(torch::Tensor, exp_avg);
  _TORCH_OPTIM_DESERIALIZE_TORCH_ARG(torch::Tensor, exp_avg_sq);
}

// ---- the optimizer -----------------------------------------------------------------------------

struct CpuAdam::Impl {
  explicit Impl(int count) : threads(count) {}

  optim_cpu::ComputeThreads threads;
};

CpuAdam::CpuAdam(const std::vector<torch::optim::OptimizerParamGroup>& param_groups,
                 CpuAdamOptions defaults, int threads)
    : Optimizer(param_groups, std::make_unique<CpuAdamOptions>(defaults)),
      impl_(std::make_unique<Impl>(threads)) {
  optim::check(adam_options(defaults));
  for (const auto& group : param_groups_) optim::check(adam_options(options_of(group)));
}

CpuAdam::CpuAdam(std::vector<torch::Tensor> params, CpuAdamOptions defaults, int threads)
    : CpuAdam({torch::optim::OptimizerParamGroup(std::move(params))}, std::move(defaults),
              threads) {}

CpuAdam::~CpuAdam() = default;

torch::Tensor CpuAdam::step(LossClosure closure) {
  torch::NoGradGuard no_grad;
  torch::Tensor loss;
  if (closure) {
    at::AutoGradMode enable_grad(true);
    loss = closure();
  }

  StepWork work;
  std::uint64_t number = 0;  // number of the parameter, over all groups
  for (const auto& group : param_groups_) {
    const CpuAdamOptions& options = options_of(group);
    optim::check(adam_options(options));
    for (const torch::Tensor& parameter : group.params()) {
      const std::uint64_t sequence = number++;
      if (!parameter.grad().defined()) continue;
      const std::string what = "parameter " + std::to_string(sequence);
      check_parameter(parameter, what);
      check_gradient(parameter.grad(), what);
      const StateFormat format = format_of(options, precision_of(parameter, what));
      auto& held = state_[parameter.unsafeGetTensorImpl()];
      if (!held) held = first_state(format, parameter);
      auto& state = static_cast<CpuAdamParamState&>(*held);
      check_state(format, state, parameter.numel(), what);
      work.add(adam_options(options), format, sequence, parameter, state);
    }
  }
  impl_->threads.for_each_block(work.pieces.size(), 1, [&](optim_cpu::Block block) {
    for (std::uint64_t i = block.begin; i < block.end; ++i) work.pieces[i].update();
  });
  work.finish();
  return loss;
}

void CpuAdam::save(torch::serialize::OutputArchive& archive) const {
  torch::optim::serialize<CpuAdamParamState, CpuAdamOptions>(archive, *this);
}

void CpuAdam::load(torch::serialize::InputArchive& archive) {
  torch::optim::serialize<CpuAdamParamState, CpuAdamOptions>(archive, *this);
}

}  // namespace strata
