#include "zero3/inner_graph.h"

#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <algorithm>
#include <sstream>
#include <unordered_set>

#include "strata/base/error.h"
#include "zero3/anchor.h"

namespace strata::zero3 {

using torch::autograd::Node;
using torch::autograd::variable_list;

namespace {

constexpr std::int64_t kSampleElements = 64;

std::string described(const torch::Tensor& tensor) {
  std::ostringstream text;
  text << toString(tensor.scalar_type()) << " " << tensor.sizes();
  return text.str();
}

[[noreturn]] void refuse(const Unit& unit, const std::string& what) {
  throw UsageError("the body of unit '" + unit.name() + "' uses " + what +
                   " that is not among its inputs, so no gradient would reach it; pass it as an "
                   "argument (or detach() it where no gradient is wanted)");
}

bool is_among(const torch::Tensor& tensor, const variable_list& list) {
  for (const torch::Tensor& other : list) {
    if (other.defined() && other.is_same(tensor)) return true;
  }
  return false;
}

void check_leaf(const Unit& unit, const variable_list& inputs, const torch::Tensor& leaf) {
  if (is_among(leaf, inputs) || is_among(leaf, unit.parameters())) return;
  if (is_anchor(leaf)) return;
  refuse(unit, "a tensor that requires a gradient (" + described(leaf) + ")");
}

torch::Tensor sample_of(const torch::Tensor& output) {
  if (!output.defined() || output.numel() == 0 || !output.is_floating_point()) return {};
  const torch::NoGradGuard no_grad;
  const torch::Tensor flat = output.detach().reshape({-1});
  const std::int64_t stride = std::max<std::int64_t>(1, flat.numel() / kSampleElements);
  return flat.slice(0, 0, flat.numel(), stride).cpu().to(torch::kFloat64).clone();
}

}  // namespace

void refuse_captured_tensors(const Unit& unit, const variable_list& inputs,
                             const variable_list& outputs, std::uint64_t first_sequence_number) {
  std::unordered_set<const Node*> seen;
  std::vector<Node*> open;
  const auto meet = [&](Node* node) {
    if (node != nullptr && seen.insert(node).second) open.push_back(node);
  };
  for (const torch::Tensor& output : outputs) {
    if (!output.defined() || !output.requires_grad()) continue;
    if (output.grad_fn()) {
      meet(output.grad_fn().get());
    } else {
      check_leaf(unit, inputs, output);
    }
  }
  while (!open.empty()) {
    Node* const node = open.back();
    open.pop_back();
    if (auto* const leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node)) {
      check_leaf(unit, inputs, leaf->variable);
      continue;
    }
    if (node->sequence_nr() < first_sequence_number) {
      refuse(unit, "a tensor made by " + node->name() + " outside of it");
    }
    for (const torch::autograd::Edge& edge : node->next_edges()) meet(edge.function.get());
  }
}

bool is_graph_alive(const Unit& unit, const variable_list& leaves) {
  const auto ends_a_graph = [](const torch::Tensor& leaf) {
    return leaf.defined() && leaf.requires_grad() &&
           torch::autograd::impl::try_get_grad_accumulator(leaf) != nullptr;
  };
  return std::any_of(leaves.begin(), leaves.end(), ends_a_graph) ||
         std::any_of(unit.parameters().begin(), unit.parameters().end(), ends_a_graph);
}

OutputSample::OutputSample(const variable_list& outputs) {
  for (const torch::Tensor& output : outputs) samples_.push_back(sample_of(output));
}

void OutputSample::compare(const Unit& unit, const variable_list& outputs) const {
  for (std::size_t i = 0; i < samples_.size() && i < outputs.size(); ++i) {
    if (!samples_[i].defined()) continue;
    const torch::Tensor now = sample_of(outputs[i]);
    const bool half = outputs[i].defined() && outputs[i].element_size() < 4;
    const double largest = samples_[i].nan_to_num(0.0, 0.0, 0.0).abs().max().item<double>();
    if (now.defined() && now.sizes() == samples_[i].sizes() &&
        torch::allclose(now, samples_[i], /*rtol=*/0.0, (half ? 5e-2 : 1e-3) * largest,
                        /*equal_nan=*/true)) {
      continue;
    }
    throw UsageError(
        "unit '" + unit.name() +
        "': running the body again for backward gave other numbers than "
        "forward (output " +
        std::to_string(i) +
        "), so its gradients would be wrong. Something moved in between that is neither an input, "
        "a registered buffer nor a known generator: name generators of its own in "
        "ShardOptions::generators, register counters as buffers, or set ShardOptions::recompute "
        "to Recompute::kNever");
  }
}

}  // namespace strata::zero3
