#include "zero3/initial_placement.h"

#include <algorithm>
#include <vector>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/movement.h"

namespace strata::zero3 {

namespace {

/// A home that is filled from its start to its end.
struct HomeCursor {
  const optim_cpu::StateHome* home;
  std::uint64_t element_bytes;
  std::span<std::byte> staging;

  [[nodiscard]] bool exists() const { return home->extent || !home->memory.empty(); }
  /// Where the elements from `begin` on are to be put; the piece under way starts at `piece_begin`.
  [[nodiscard]] std::byte* at(std::uint64_t begin, std::uint64_t piece_begin) const {
    if (!exists()) return nullptr;
    return home->extent ? staging.data() + (begin - piece_begin) * element_bytes
                        : home->memory.data() + begin * element_bytes;
  }
  void publish(tiering::ShardStore* store, std::uint64_t begin, std::uint64_t end) const {
    if (!home->extent) return;
    auto transfer = tiering::flush(*store, *home->extent,
                                   {begin * element_bytes, (end - begin) * element_bytes}, staging);
    STRATA_CHECK(transfer.has_value(), "the I/O queue is busy before the first step");
    transfer->wait();
  }
};

const optim_cpu::StateHome kNoHome;

}  // namespace

/// Writes one flat vector (weight and remainder) in order, piece by piece.
class InitialPlacement::VectorWriter {
 public:
  VectorWriter(const InitialPlacement& placement, const FlatVector& vector,
               const optim_cpu::StateHome& master)
      : placement_(placement),
        count_(vector.count),
        weight_{&vector.weight, state_bytes(placement.format_, StateKind::kWeight),
                placement.weight_staging_},
        master_{&master, state_bytes(placement.format_, StateKind::kMaster),
                placement.master_staging_} {}

  void append(std::span<const float> masters) {
    while (!masters.empty()) {
      const std::uint64_t room = piece_end() - position_;
      const auto part = masters.first(std::min<std::uint64_t>(room, masters.size()));
      optim_cpu::split_master(placement_.format_, part, weight_.at(position_, piece_begin_),
                              master_.at(position_, piece_begin_));
      position_ += part.size();
      masters = masters.subspan(part.size());
      if (position_ == piece_end()) publish();
    }
  }

  void append_zeros_up_to(std::uint64_t end) {
    const std::vector<float> zeros(UnitLayout::kAlignmentElements, 0.0f);
    while (position_ < end) {
      append(std::span(zeros).first(std::min<std::uint64_t>(end - position_, zeros.size())));
    }
  }

 private:
  [[nodiscard]] std::uint64_t piece_end() const {
    return std::min(piece_begin_ + placement_.piece_elements_, count_);
  }

  void publish() {
    weight_.publish(placement_.store_, piece_begin_, position_);
    master_.publish(placement_.store_, piece_begin_, position_);
    piece_begin_ = position_;
  }

  const InitialPlacement& placement_;
  std::uint64_t count_;
  HomeCursor weight_, master_;
  std::uint64_t piece_begin_ = 0, position_ = 0;
};

InitialPlacement::InitialPlacement(const StateFormat& format, tiering::ShardStore* store,
                                   tiering::Budget& host, Logger& log)
    : format_(format), store_(store) {
  if (store == nullptr) {
    piece_elements_ = std::uint64_t{1} << 20;
    return;
  }
  // Pieces of both are whole chunks.
  const std::uint64_t weight_width = state_bytes(format, StateKind::kWeight);
  const std::uint64_t master_width = state_bytes(format, StateKind::kMaster);
  const std::uint64_t narrower =
      master_width == 0 ? weight_width : std::min(weight_width, master_width);
  piece_elements_ = store->chunk_bytes() / narrower;
  arena_.emplace(host, piece_elements_ * (weight_width + master_width), log);
  arena_->heed(store->lost_memory());
  weight_staging_ = arena_->take(piece_elements_ * weight_width, "staging of initial weights");
  if (master_width > 0) {
    master_staging_ = arena_->take(piece_elements_ * master_width, "staging of initial masters");
  }
}

void InitialPlacement::place(Unit& unit, const ParameterInitializer& initializer) {
  torch::NoGradGuard no_grad;
  VectorWriter trainable(*this, unit.trainable(), unit.states.master);
  VectorWriter frozen(*this, unit.frozen(), kNoHome);
  for (std::size_t i = 0; i < unit.layout().parameters.size(); ++i) {
    const ParameterLayout& parameter = unit.layout().parameters[i];
    const torch::Tensor& own = unit.parameters()[i];
    torch::Tensor value;
    if (initializer) {
      value = torch::empty(parameter.shape, torch::kFloat32);
      initializer(unit.layout().full_name(parameter), value);
    } else if (own.is_meta()) {
      throw UsageError("parameter '" + unit.layout().full_name(parameter) +
                       "' is on the meta device; give ShardOptions::initializer to fill it");
    } else {
      value = own.detach().to(torch::kCPU, torch::kFloat32);
    }
    value = value.contiguous();
    VectorWriter& writer = parameter.trainable ? trainable : frozen;
    writer.append_zeros_up_to(parameter.offset);
    writer.append({value.const_data_ptr<float>(), static_cast<std::size_t>(value.numel())});
  }
  trainable.append_zeros_up_to(unit.trainable().count);
  frozen.append_zeros_up_to(unit.frozen().count);
}

}  // namespace strata::zero3
