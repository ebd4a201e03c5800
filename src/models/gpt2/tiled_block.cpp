#include "models/gpt2/tiled_block.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "models/kept_rows.h"
#include "models/model_inputs.h"

namespace strata::models {

using Tensors = UnitSequence::Tensors;

void TiledBlock::add_to(UnitSequence& sequence) const {
  add_to(sequence,
         [rest = rest_.shared_module()](const torch::Tensor& qkv, const Tensors& micro_batch) {
           const auto documents = documents_of(positions_of(micro_batch));
           return rest->attend(qkv, nullptr, documents.get());
         });
}

void TiledBlock::add_to(UnitSequence& sequence, const Attend& attend) const {
  const auto rest = rest_.shared_module();
  UnitSequence parts;
  // What backward wants is kept, for as long as the span's own backward lasts.
  rest_.add_to(
      parts,
      [](Gpt2BlockRestImpl& m, const Tensors& x, const Tensors& /*micro_batch*/) {
        return m.begin(x[0]);
      },
      Recompute::kNever);
  c_attn_.add_to(parts);
  parts.add_function([attend](const Tensors& x, const Tensors& micro_batch) {
    return Tensors{x[0], attend(LinearInTiles::output(x), micro_batch)};
  });
  attn_proj_.add_to(parts);
  rest_.add_to(
      parts,
      [](Gpt2BlockRestImpl& m, const Tensors& x, const Tensors& /*micro_batch*/) {
        return m.middle(x[0], LinearInTiles::output(x));
      },
      Recompute::kNever);
  c_fc_.add_to(parts);
  parts.add_function([rest](const Tensors& x, const Tensors& /*micro_batch*/) {
    return Tensors{x[0], rest->activate(LinearInTiles::output(x))};
  });
  mlp_proj_.add_to(parts);
  parts.add_function([rest](const Tensors& x, const Tensors& /*micro_batch*/) {
    return rest->add(x[0], LinearInTiles::output(x));
  });
  rest_.add_span_to(sequence, parts);
}

torch::Tensor TiledBlock::run(const torch::Tensor& x, const Tensors& micro_batch) const {
  UnitSequence alone;
  add_to(alone);
  return alone.run({x}, micro_batch).front();
}

torch::Tensor TiledBlock::run(const torch::Tensor& x, KeyValueCache& cache,
                              std::int64_t layer) const {
  UnitSequence alone;
  add_to(alone, [rest = rest_.shared_module(), &cache, layer](const torch::Tensor& qkv,
                                                              const Tensors& /*micro_batch*/) {
    return by_kept_rows(qkv, cache, layer,
                        [&](const torch::Tensor& rows, const KeyValueCache::Part& part) {
                          return rest->attend(rows, &part);
                        });
  });
  return alone.run({x}).front();
}

void TiledBlock::visit_parameters(
    const std::function<void(const std::string&, const torch::Tensor&)>& visit) {
  std::vector<std::pair<std::string, torch::Tensor>> norms;  // ln_1's, then ln_2's
  rest_.visit_parameters([&](const std::string& name, const torch::Tensor& value) {
    norms.emplace_back(name, value.detach().clone());
  });
  const std::size_t half = norms.size() / 2;
  for (std::size_t i = 0; i < half; ++i) visit(norms[i].first, norms[i].second);
  c_attn_.visit_parameters(visit);
  attn_proj_.visit_parameters(visit);
  for (std::size_t i = half; i < norms.size(); ++i) visit(norms[i].first, norms[i].second);
  c_fc_.visit_parameters(visit);
  mlp_proj_.visit_parameters(visit);
}

}  // namespace strata::models
