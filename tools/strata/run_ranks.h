#pragma once

#include <memory>
#include <string>

#include "strata/zero3/world.h"

namespace strata::zero3 {
class Ranks;
}

namespace strata::tool {

/// The ranks of a run of `strata finetune`: the processes that a launcher has started, or this one
/// alone. The first speaks for all of them: it alone prints, and writes the output.
class RunRanks {
 public:
  /// Joins the others. Throws what World::of_this_process and strata::join throw.
  RunRanks();

  [[nodiscard]] bool is_first() const { return world_.rank == 0; }
  [[nodiscard]] int rank() const { return world_.rank; }
  [[nodiscard]] int size() const { return world_.size; }
  [[nodiscard]] int on_this_host() const { return world_.local_size; }
  /// For EnginePlace::ranks; null with one rank.
  [[nodiscard]] zero3::Ranks* end() const { return end_.get(); }

 private:
  World world_;
  std::shared_ptr<zero3::Ranks> end_;
};

/// What an error of this process begins with: "rank 1: ", or nothing where it is alone.
[[nodiscard]] std::string rank_prefix();

}  // namespace strata::tool
