#include "simulated_accelerator/operator_fallback.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>

#include "simulated_accelerator/device_generator.h"
#include "simulated_accelerator/device_tensor.h"
#include "simulated_accelerator/operator_call.h"

namespace strata::simulated {
namespace {

using Ranges = support::SimDevice::Ranges;

struct Accesses {
  Ranges reads;
  Ranges writes;
};

void add(Ranges& ranges, const at::Tensor& tensor) {
  if (!is_on_device(tensor)) return;
  const Ranges more = addresses_of(tensor);
  ranges.insert(ranges.end(), more.begin(), more.end());
}

/// The arguments that the call touches, save those that it only writes its results to.
Accesses accesses_of(const c10::FunctionSchema& schema, const Values& arguments) {
  Accesses accesses;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const c10::Argument& argument = schema.arguments()[i];
    if (argument.is_out()) continue;
    Ranges& ranges = is_written(argument) ? accesses.writes : accesses.reads;
    (void)map_tensors(arguments[i], [&](const at::Tensor& tensor) {
      add(ranges, tensor);
      return tensor;
    });
  }
  return accesses;
}

/// The device that a call is for: that of its tensors, else the one that it names.
c10::Device device_of(const c10::OperatorHandle& op, const Values& arguments) {
  std::optional<c10::Device> named, device;
  for (const c10::IValue& argument : arguments) {
    if (argument.isDevice()) named = argument.toDevice();
    (void)map_tensors(argument, [&](const at::Tensor& tensor) {
      if (!is_on_device(tensor)) return tensor;
      TORCH_CHECK(!device || *device == tensor.device(), op.schema().name(), " got tensors of ",
                  *device, " and of ", tensor.device());
      device = tensor.device();
      return tensor;
    });
  }
  if (device) return *device;
  return named && named->type() == kDeviceType ? *named : c10::Device(kDeviceType);
}

/// An argument as a kernel of the CPU takes it. Tensors of the host are copied, because the host
/// may change them after the call.
c10::IValue for_cpu(const c10::OperatorHandle& op, const c10::IValue& value) {
  if (value.isDevice()) return c10::Device(at::kCPU);
  const bool are_indices = value.isOptionalTensorList();
  return map_tensors(value, [&](const at::Tensor& tensor) {
    if (is_on_device(tensor)) return touchable(tensor).set_requires_grad(tensor.requires_grad());
    if (!tensor.defined() || tensor.unsafeGetTensorImpl()->is_wrapped_number()) return tensor;
    TORCH_CHECK(tensor.dim() == 0 || are_indices, op.schema().name(),
                " got tensors of the simulated accelerator and of the CPU: all must be on one "
                "device, but for single values and indices");
    return tensor.clone();
  });
}

/// Where the caller names no generator, the device's own is meant.
at::Generator generator_for_cpu(const c10::OperatorHandle& op, const c10::IValue& value) {
  const at::Generator generator =
      value.isNone() ? default_generator(current_index()) : value.toGenerator();
  const auto* const of_device =
      dynamic_cast<const DeviceGenerator*>(generator.unsafeGetGeneratorImpl());
  TORCH_CHECK(of_device != nullptr, op.schema().name(),
              " got a generator of another device than the simulated accelerator");
  return of_device->source();
}

/// A call as it is done on the thread of a stream. What it only writes its results to (`out=`) is
/// made there, because some kernels resize it on the way.
class CpuCall {
 public:
  CpuCall(const c10::OperatorHandle& op, const Values& arguments)
      : op_(op), with_gradients_(at::GradMode::is_enabled()) {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const c10::Argument& declared = op.schema().arguments()[i];
      if (declared.is_out() && arguments[i].isTensor()) {
        arguments_.emplace_back(at::empty({0}, arguments[i].toTensor().options().device(at::kCPU)));
      } else if (is_generator(declared)) {
        arguments_.emplace_back(generator_for_cpu(op, arguments[i]));
      } else {
        arguments_.push_back(for_cpu(op, arguments[i]));
      }
    }
  }

  [[nodiscard]] Values operator()() const {
    return call_below_autograd(op_, arguments_, with_gradients_);
  }

 private:
  c10::OperatorHandle op_;
  bool with_gradients_;  // some kernels compute otherwise when no backward pass follows
  Values arguments_;
};

/// The results of a call on the device: arguments that it returns, and new tensors. Those that the
/// kernel's results are to be copied to are in `to`, the others are undefined there.
struct Results {
  Values values;
  Values to;
};

c10::IValue touchable_ones(const c10::IValue& value) {
  return map_tensors(value, [](const at::Tensor& tensor) {
    return tensor.defined() ? touchable(tensor) : tensor;
  });
}

/// Makes room on the device for results of these sizes, strides and types.
Results room_for(const c10::FunctionSchema& schema, const Values& arguments, const Values& shapes) {
  Results results;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const auto returned = returned_argument(schema, i);
    if (!returned) {
      results.values.push_back(map_tensors(shapes[i], [](const at::Tensor& shape) {
        return shape.defined() ? empty_on_device(shape) : shape;
      }));
      results.to.push_back(touchable_ones(results.values[i]));
      continue;
    }
    results.values.push_back(arguments[*returned]);
    if (!schema.arguments()[*returned].is_out()) {
      results.to.emplace_back();  // the kernel has written there itself
      continue;
    }
    const at::Tensor& out = arguments[*returned].toTensor();
    if (out.sizes() != shapes[i].toTensor().sizes()) out.resize_(shapes[i].toTensor().sizes());
    results.to.push_back(touchable_ones(out));
  }
  return results;
}

void add_writes(Ranges& writes, const Results& results) {
  for (std::size_t i = 0; i < results.values.size(); ++i) {
    if (results.to[i].isNone()) continue;
    (void)map_tensors(results.values[i], [&](const at::Tensor& tensor) {
      add(writes, tensor);
      return tensor;
    });
  }
}

void copy_results(const Values& from, const Values& to) {
  const at::NoGradGuard no_grad;
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  for (std::size_t i = 0; i < to.size(); ++i) {
    std::vector<at::Tensor> targets;
    (void)map_tensors(to[i], [&](const at::Tensor& target) {
      targets.push_back(target);
      return target;
    });
    auto target = targets.begin();
    (void)map_tensors(from[i], [&](const at::Tensor& result) {
      if (target == targets.end()) return result;
      TORCH_CHECK(!result.defined() || result.sizes() == target->sizes(), "the CPU's kernel gave ",
                  result.sizes(), " where ", target->sizes(), " was foretold");
      if (result.defined()) target->copy_(result);
      ++target;
      return result;
    });
  }
}

/// Without the addresses in this program that LibTorch's messages end with.
template <typename Function>
void with_short_messages(const Function& function) {
  try {
    function();
  } catch (const c10::Error& error) {
    throw std::runtime_error(error.what_without_backtrace());
  }
}

Values launch(const c10::OperatorHandle& op, const Values& arguments, const Values& shapes) {
  const c10::FunctionSchema& schema = op.schema();
  Results results = room_for(schema, arguments, shapes);
  Accesses accesses = accesses_of(schema, arguments);
  add_writes(accesses.writes, results);
  live_device().run_on(current_role(), schema.name(), accesses.reads, accesses.writes,
                       [call = CpuCall(op, arguments), to = std::move(results.to)] {
                         with_short_messages([&] { copy_results(call(), to); });
                       });
  return std::move(results.values);
}

/// The outcome of a call that the host waits for, kept by the host and the stream.
struct Outcome {
  Values results;
  std::exception_ptr error;
};

Values call_and_wait(const c10::OperatorHandle& op, const Values& arguments) {
  const c10::FunctionSchema& schema = op.schema();
  const Accesses accesses = accesses_of(schema, arguments);
  const auto outcome = std::make_shared<Outcome>();
  support::SimDevice& device = live_device();
  device.run_on(current_role(), schema.name(), accesses.reads, accesses.writes,
                [call = CpuCall(op, arguments), outcome] {
                  try {
                    outcome->results = call();
                  } catch (...) {
                    outcome->error = std::current_exception();
                  }
                });
  device.settle(current_role(), kDeadline);
  if (outcome->error) std::rethrow_exception(outcome->error);

  Results results = room_for(schema, arguments, outcome->results);
  Ranges writes;
  add_writes(writes, results);
  device.run_on(current_role(), schema.name() + " results", {}, writes,
                [outcome, to = std::move(results.to)] { copy_results(outcome->results, to); });
  return std::move(results.values);
}

void call_on_device(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const Values arguments = torch::jit::pop(*stack, schema.arguments().size());
  const CurrentDevice current(device_of(op, arguments));
  const bool draws = std::ranges::any_of(schema.arguments(), &is_generator);
  const std::optional<Values> shapes = draws ? std::nullopt : shapes_of_results(op, arguments);
  Values results = shapes ? launch(op, arguments, *shapes) : call_and_wait(op, arguments);
  stack->insert(stack->end(), results.begin(), results.end());
}

/// Whether an operator computes with tensors and returns no view of one.
bool computes(const c10::FunctionSchema& schema) {
  const auto is_view = [](const c10::Argument& argument) {
    return argument.alias_info() != nullptr && !argument.alias_info()->isWrite();
  };
  const auto has_tensor = [](const c10::Argument& argument) {
    return argument.type()->str().find("Tensor") != std::string::npos;
  };
  return std::ranges::any_of(schema.arguments(), has_tensor) &&
         std::ranges::none_of(schema.arguments(), is_view);
}

}  // namespace

void register_operator_fallback(torch::Library& aten) {
  // These are put together from others on every device; the CPU's whole chooses other parts than an
  // accelerator's would.
  for (const char* const name : {"convolution", "convolution_backward"}) {
    aten.impl(name, torch::CppFunction::makeFromBoxedFunction<&call_on_device>());
  }
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    const auto op = c10::Dispatcher::singleton().findSchema(name);
    if (!op || name.getNamespace() != "aten" || !computes(op->schema()) ||
        !op->hasKernelForDispatchKey(c10::DispatchKey::CPU) ||
        op->hasKernelForDispatchKey(c10::DispatchKey::PrivateUse1)) {
      continue;
    }
    const std::string full =
        name.name + (name.overload_name.empty() ? "" : "." + name.overload_name);
    aten.impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&call_on_device>());
  }
}

void register_fallback_for_other_operators(torch::Library& all) {
  all.fallback(torch::CppFunction::makeFromBoxedFunction<&call_on_device>());
}

}  // namespace strata::simulated
