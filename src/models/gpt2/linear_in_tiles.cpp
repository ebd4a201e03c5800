#include "models/gpt2/linear_in_tiles.h"

#include <utility>

namespace strata::models {

using Tensors = UnitSequence::Tensors;

void LinearInTiles::add_to(UnitSequence& sequence) const {
  sequence.add_function([](const Tensors& x, const Tensors& /*micro_batch*/) { return x[0]; });
  for (const ModelPart<Conv1D>& part : parts_) {
    // Backward needs the input alone: running the layer again would give nothing.
    part.add_beside_to(
        sequence,
        [](Conv1DImpl& m, const Tensors& x, const Tensors& /*micro_batch*/) {
          return m.forward(x[1]);
        },
        Recompute::kNever);
  }
}

torch::Tensor LinearInTiles::output(const Tensors& residual_and_pieces) {
  if (residual_and_pieces.size() == 2) return residual_and_pieces[1];
  return torch::cat(Tensors(residual_and_pieces.begin() + 1, residual_and_pieces.end()), -1);
}

void LinearInTiles::visit_parameters(
    const std::function<void(const std::string&, const torch::Tensor&)>& visit) {
  std::vector<std::pair<std::string, torch::Tensor>> whole;  // in the order of a tile's
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto tile = static_cast<std::int64_t>(i);
    const std::size_t prefix = tile_name(tile, "").size() + 1;
    std::size_t next = 0;
    parts_[i].visit_parameters([&](const std::string& name, const torch::Tensor& value) {
      if (tile == 0) {
        std::vector<std::int64_t> shape = value.sizes().vec();
        shape.back() = outputs_.rows();
        whole.emplace_back(name.substr(prefix),
                           torch::empty(shape, value.options().device(torch::kCPU)));
      }
      const torch::Tensor part =
          whole[next++].second.narrow(-1, outputs_.begin(tile), outputs_.size(tile));
      part.copy_(value.detach());
    });
  }
  for (auto& [name, value] : whole) visit(name, std::exchange(value, {}));
}

}  // namespace strata::models
