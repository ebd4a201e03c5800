#include "simulated_accelerator/operator_call.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "simulated_accelerator/device_tensor.h"

namespace strata::simulated {
namespace {

at::Tensor without_elements(const at::Tensor& tensor) {
  if (!is_on_device(tensor)) return tensor;
  return at::empty_strided(tensor.sizes(), tensor.strides(),
                           at::TensorOptions().dtype(tensor.dtype()).device(c10::DeviceType::Meta));
}

}  // namespace

bool is_written(const c10::Argument& argument) {
  return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

std::optional<std::size_t> returned_argument(const c10::FunctionSchema& schema,
                                             std::size_t result) {
  const c10::AliasInfo* const alias = schema.returns()[result].alias_info();
  if (alias == nullptr) return std::nullopt;
  for (std::size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::AliasInfo* const other = schema.arguments()[i].alias_info();
    if (other != nullptr && other->beforeSets() == alias->beforeSets()) return i;
  }
  return std::nullopt;
}

bool is_generator(const c10::Argument& argument) {
  return argument.type()->isSubtypeOf(*c10::OptionalType::create(c10::GeneratorType::get()));
}

Values call_below_autograd(const c10::OperatorHandle& op, Values arguments, bool with_gradients) {
  const at::AutoGradMode mode(with_gradients);
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  op.callBoxed(&arguments);
  return arguments;
}

std::optional<Values> shapes_of_results(const c10::OperatorHandle& op, const Values& arguments) {
  if (!op.hasComputedKernelForDispatchKey(c10::DispatchKey::Meta)) return std::nullopt;
  Values shapes;
  for (const c10::IValue& argument : arguments) {
    shapes.push_back(argument.isDevice() ? c10::IValue(c10::Device(c10::DeviceType::Meta))
                                         : map_tensors(argument, &without_elements));
  }
  try {
    shapes = call_below_autograd(op, std::move(shapes), /*with_gradients=*/false);
  } catch (const c10::Error&) {
    return std::nullopt;
  }
  const bool known = std::ranges::all_of(
      shapes, [](const c10::IValue& value) { return value.isTensor() || value.isTensorList(); });
  return known ? std::optional(std::move(shapes)) : std::nullopt;
}

}  // namespace strata::simulated
