#include "run_ranks.h"

#include "strata/base/error.h"
#include "strata/zero3/join.h"

namespace strata::tool {

RunRanks::RunRanks() : world_(World::of_this_process()) {
  if (world_.size > 1) end_ = strata::join(world_);
}

std::string rank_prefix() {
  try {
    const World world = World::of_this_process();
    return world.size > 1 ? "rank " + std::to_string(world.rank) + ": " : "";
  } catch (const ConfigError&) {
    return "";
  }
}

}  // namespace strata::tool
