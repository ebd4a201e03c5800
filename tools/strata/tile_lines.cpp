#include "tile_lines.h"

#include "strata/zero3/plan.h"

namespace strata::tool {

std::vector<std::string> tile_lines(const models::ModelTiles& tiles,
                                    const formats::DsConfig& config) {
  const bool is_asked_for = config.strata.tile_bytes.value_or(0) > 0;
  std::vector<std::string> lines = models::describe(tiles);
  for (std::string& line : lines) {
    line +=
        is_asked_for ? " (strata.tile_bytes)" : " (the device budget has no room for the whole)";
  }
  return lines;
}

std::vector<std::string> tile_lines(const models::ModelConfig& model,
                                    const formats::DsConfig& config) {
  formats::DsConfig placed = config;
  if (placed.nvme_directories().empty())
    placed.strata.nvme_directories = {"any"};  // none is looked at
  return tile_lines(models::tiles_of(model, placed, zero3::plan_input_from(placed)), config);
}

}  // namespace strata::tool
