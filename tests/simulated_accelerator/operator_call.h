#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>

#include <optional>
#include <vector>

namespace strata::simulated {

/// The arguments or the results of an operator, in the order of its schema.
using Values = std::vector<c10::IValue>;

/// Calls `function` for every tensor in `value`, lists included; gives `value` with what it returns
/// in their places.
template <typename Function>
[[nodiscard]] c10::IValue map_tensors(const c10::IValue& value, const Function& function) {
  if (value.isTensor()) return function(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> mapped;
    for (const at::Tensor& tensor : value.toTensorVector()) mapped.push_back(function(tensor));
    return mapped;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> mapped;
    for (std::optional<at::Tensor> tensor : value.toOptionalTensorList()) {
      mapped.push_back(tensor ? std::optional(function(*tensor)) : std::nullopt);
    }
    return mapped;
  }
  return value;
}

/// Whether an operator writes to this argument of its.
[[nodiscard]] bool is_written(const c10::Argument& argument);

/// The argument that the operator gives back as its result number `result`, if it does that.
[[nodiscard]] std::optional<std::size_t> returned_argument(const c10::FunctionSchema& schema,
                                                           std::size_t result);

/// Whether an operator draws random numbers from this argument of its, given or not.
[[nodiscard]] bool is_generator(const c10::Argument& argument);

/// Calls the operator's kernel for the tensors in `arguments`, without autograd.
[[nodiscard]] Values call_below_autograd(const c10::OperatorHandle& op, Values arguments,
                                         bool with_gradients);

/// The operator's results as tensors without elements (of the meta device): their sizes,
/// strides and types. Nothing where LibTorch cannot say that without computing, or where the
/// arguments do not fit together; computing says then what is wrong with them.
[[nodiscard]] std::optional<Values> shapes_of_results(const c10::OperatorHandle& op,
                                                      const Values& arguments);

}  // namespace strata::simulated
