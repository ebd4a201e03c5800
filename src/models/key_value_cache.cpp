#include "strata/models/key_value_cache.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <variant>

#include "models/attention.h"
#include "strata/base/error.h"
#include "strata/models/model_config.h"

namespace strata::models {

using torch::Tensor;

namespace {

/// Numbers that a block keeps of a token.
std::int64_t kept_numbers(const Gpt2Config& config) { return 2 * config.n_embd; }
std::int64_t kept_numbers(const LlamaConfig& config) { return 2 * config.key_width(); }
std::int64_t kept_numbers(const NeoxConfig& config) { return 2 * config.hidden_size; }

}  // namespace

KeyValueCache::KeyValueCache(const ModelConfig& config, std::int64_t rows, std::int64_t positions)
    : rows_(rows), positions_(positions) {
  if (rows < 1 || positions < 1 || positions > config.context()) {
    throw UsageError(
        "a cache of keys and values needs rows, and positions from 1 to the context (" +
        std::to_string(config.context()) + "), not " + std::to_string(rows) + " rows of " +
        std::to_string(positions));
  }
  layers_.resize(static_cast<std::size_t>(config.layers()));
  lengths_.assign(static_cast<std::size_t>(rows), 0);
  counts_ = lengths_;
}

std::uint64_t KeyValueCache::bytes(const ModelConfig& config, Precision precision,
                                   std::int64_t rows, std::int64_t positions) {
  const std::int64_t numbers =
      std::visit([](const auto& family) { return kept_numbers(family); }, config.family());
  return static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(positions + 1) *
         static_cast<std::uint64_t>(config.layers()) * static_cast<std::uint64_t>(numbers) *
         weight_bytes(precision);
}

void KeyValueCache::begin(const Tensor& given, const std::vector<std::int64_t>& counts) {
  const std::int64_t tokens = given.size(1);
  bool fits = given.size(0) == rows_ && counts.size() == lengths_.size();
  for (std::size_t row = 0; fits && row < counts.size(); ++row) {
    fits = counts[row] >= 0 && counts[row] <= tokens && lengths_[row] + counts[row] <= positions_;
  }
  if (!fits) {
    throw UsageError("tokens for a cache of keys and values must be [" + std::to_string(rows_) +
                     ", T], with a count from 0 to T for each row that leaves it within " +
                     std::to_string(positions_) + " positions");
  }
  counts_ = counts;
  end_ = 0;
  is_first_ = std::ranges::all_of(lengths_, [](std::int64_t length) { return length == 0; });
  places_ = torch::full({rows_, tokens}, positions_, torch::kInt64);
  last_ = torch::zeros({rows_}, torch::kInt64);
  auto place = places_.accessor<std::int64_t, 2>();
  auto last = last_.accessor<std::int64_t, 1>();
  for (std::int64_t row = 0; row < rows_; ++row) {
    const auto index = static_cast<std::size_t>(row);
    for (std::int64_t t = 0; t < counts[index]; ++t) place[row][t] = lengths_[index] + t;
    last[row] = std::max<std::int64_t>(counts[index] - 1, 0);
    end_ = std::max(end_, lengths_[index] + counts[index]);
  }
}

void KeyValueCache::end() {
  for (std::size_t row = 0; row < lengths_.size(); ++row) lengths_[row] += counts_[row];
}

Tensor KeyValueCache::Part::places() const { return cache.places_.narrow(0, first_row, rows); }

std::pair<Tensor, Tensor> KeyValueCache::Part::extend(const Tensor& keys,
                                                      const Tensor& values) const {
  Layer& kept = cache.layers_[static_cast<std::size_t>(layer)];
  const std::int64_t heads = keys.size(1), width = keys.size(3);
  if (!kept.keys.defined()) {
    // Zeros: what nobody has written is multiplied by a weight of zero, which NaN would survive.
    const std::vector<std::int64_t> shape = {cache.rows_, heads, cache.positions_ + 1, width};
    kept.keys = torch::zeros(shape, keys.options());
    kept.values = torch::zeros(shape, values.options());
  }
  const Tensor index = places()
                           .to(keys.device())
                           .view({rows, 1, keys.size(2), 1})
                           .expand({rows, heads, keys.size(2), width});
  const auto extended = [&](const Tensor& all, const Tensor& more) {
    const Tensor own = all.narrow(0, first_row, rows);
    own.scatter_(2, index, more);
    return own.narrow(2, 0, cache.end_);
  };
  return {extended(kept.keys, keys), extended(kept.values, values)};
}

Tensor attend_to_kept(const KeyValueCache::Part& part, const Tensor& queries, const Tensor& keys,
                      const Tensor& values, std::int64_t window, const AttentionScores& scores) {
  const auto [all_keys, all_values] = part.extend(keys, values);
  const std::int64_t batch = queries.size(0), heads = queries.size(1), tokens = queries.size(2);
  const std::int64_t key_heads = all_keys.size(1), each = heads / key_heads;
  const Tensor places = part.places().to(queries.device()).unsqueeze(-1);
  const Tensor seen = torch::arange(all_keys.size(2), places.options());
  Tensor mask = seen <= places;  // [B, T, L]
  if (window > 0) mask = mask.logical_and(seen > places - window);
  // Heads that share keys stand under one another, as more tokens of one head: nothing is copied.
  const Tensor stacked = queries.reshape({batch, key_heads, each * tokens, queries.size(3)});
  const Tensor attended =
      attention(stacked, all_keys, all_values, mask.repeat({1, each, 1}).unsqueeze(1),
                /*dropout=*/0.0, scores);
  return attended.reshape({batch, heads, tokens, queries.size(3)});
}

}  // namespace strata::models
