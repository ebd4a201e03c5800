#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/pretrained_files.h"
#include "models/tensor_names.h"
#include "strata/base/error.h"
#include "strata/formats/safetensors.h"
#include "strata/models/export.h"
#include "strata/zero3/row_tiles.h"

namespace strata::models {

namespace {

using formats::TensorInfo;
using Parameter = CheckpointValues::Parameter;

/// Elements that pass through memory at a time.
constexpr std::uint64_t kElementsOfAPiece = 256 * 1024;

/// A tensor of the model in the checkpoint: one parameter, or its tiles in their order.
using Tiles = std::map<std::int64_t, const Parameter*>;

/// The number of a tile and the name of its whole: "tile_3.transformer.wte.weight".
std::pair<std::int64_t, std::string> tile_of(const std::string& name) {
  const std::string_view word = "tile_";
  std::int64_t tile = 0;
  if (name.starts_with(word)) {
    const char* const digits = name.data() + word.size();
    const auto [end, error] = std::from_chars(digits, name.data() + name.size(), tile);
    const std::string prefix = tile_name(tile, "") + ".";
    if (error == std::errc() && end != digits && name.starts_with(prefix)) {
      return {tile, name.substr(prefix.size())};
    }
  }
  return {0, name};
}

/// Tensors by their names in files.
std::map<std::string, Tiles> sources_in(const CheckpointValues& values, const TensorNames& names) {
  std::map<std::string, Tiles> sources;
  for (const Parameter& parameter : values.parameters()) {
    const auto [tile, whole] = tile_of(parameter.name);
    sources[names.of_parameter(whole)].emplace(tile, &parameter);
  }
  return sources;
}

/// Whether tiles of these shapes, side by side along `dimension`, make the whole.
bool make_whole(const Tiles& tiles, std::size_t dimension, const std::vector<std::int64_t>& whole) {
  std::int64_t along = 0;
  for (const auto& [number, tile] : tiles) {
    std::vector<std::int64_t> shape = tile->shape;
    if (shape.size() != whole.size()) return false;
    if (__builtin_add_overflow(along, shape[dimension], &along)) return false;
    shape[dimension] = whole[dimension];
    if (shape != whole) return false;
  }
  return along == whole[dimension];
}

/// The dimension along which tiles make the whole, the first or the last; nullopt where they do
/// not.
std::optional<std::size_t> joined_dimension(const Tiles& tiles, const TensorInfo& whole) {
  if (tiles.size() == 1 && tiles.begin()->second->shape == whole.shape) return 0;
  if (whole.shape.empty()) return std::nullopt;
  for (const std::size_t dimension : {std::size_t{0}, whole.shape.size() - 1}) {
    if (make_whole(tiles, dimension, whole.shape)) return dimension;
  }
  return std::nullopt;
}

/// The way of weights from a checkpoint to files.
class WeightExport {
 public:
  WeightExport(const CheckpointValues& values, PretrainedFiles& files,
               const BeforeEachPiece& before_each_piece)
      : values_(values), files_(files), check_(before_each_piece) {}

  void write(const TensorInfo& whole, const Tiles& tiles, std::size_t dimension) {
    if (tiles.size() == 1 || dimension == 0) {
      for (const auto& [number, tile] : tiles) write_parameter(whole.name, *tile);
      return;
    }
    write_columns(whole, tiles);
  }

 private:
  void write_parameter(const std::string& name, const Parameter& parameter) {
    for (std::uint64_t begin = 0; begin < parameter.count;) {
      floats_.resize(std::min(parameter.count - begin, kElementsOfAPiece));
      values_.read_masters(parameter, begin, floats_);
      append(name);
      begin += floats_.size();
    }
    if (parameter.count == 0) files_.append(name, {});
  }

  /// Tiles beside one another: some rows of each at a time, dealt into whole rows.
  void write_columns(const TensorInfo& whole, const Tiles& tiles) {
    const auto columns = static_cast<std::uint64_t>(whole.shape.back());
    if (columns == 0 || whole.elements() == 0) return files_.append(whole.name, {});
    const std::uint64_t rows = whole.elements() / columns;
    const std::uint64_t rows_at_once = std::max<std::uint64_t>(1, kElementsOfAPiece / columns);
    std::vector<float> part;
    for (std::uint64_t row = 0; row < rows; row += rows_at_once) {
      const std::uint64_t count = std::min(rows_at_once, rows - row);
      floats_.resize(count * columns);
      std::uint64_t column = 0;
      for (const auto& [number, tile] : tiles) {
        const auto width = static_cast<std::uint64_t>(tile->shape.back());
        part.resize(count * width);
        values_.read_masters(*tile, row * width, part);
        for (std::uint64_t i = 0; i < count; ++i) {
          std::copy_n(part.data() + i * width, width, floats_.data() + i * columns + column);
        }
        column += width;
      }
      append(whole.name);
    }
  }

  void append(const std::string& name) {
    if (check_) check_();
    files_.append_rounded(name, floats_);
  }

  const CheckpointValues& values_;
  PretrainedFiles& files_;
  const BeforeEachPiece& check_;
  std::vector<float> floats_;
};

[[noreturn]] void fail_other_model(const CheckpointValues& values, const std::string& why) {
  throw DataError(values.info().path.string() + ": is of another model than the config: " + why +
                  "; name the model that was trained");
}

}  // namespace

void write_pretrained(const CheckpointValues& values, const ModelConfig& config,
                      Precision precision, const std::filesystem::path& directory,
                      const SaveOptions& options) {
  const TensorNames names = tensor_names(config);
  const std::map<std::string, Tiles> sources = sources_in(values, names);
  const bool has_head = sources.contains(std::string(names.head));
  PretrainedFiles files(has_head && config.ties_embeddings() ? config.with_own_head() : config,
                        precision, directory, options);
  std::vector<std::size_t> dimensions;
  for (const TensorInfo& tensor : files.tensors()) {
    const auto found = sources.find(tensor.name);
    if (found == sources.end()) fail_other_model(values, "it has no " + tensor.name);
    const auto dimension = joined_dimension(found->second, tensor);
    if (!dimension) {
      fail_other_model(values, tensor.name + " is " + tensor.description() +
                                   " by the config, and has other rows and columns there");
    }
    dimensions.push_back(*dimension);
  }
  for (const auto& [name, tiles] : sources) {
    const auto& tensors = files.tensors();
    if (std::none_of(tensors.begin(), tensors.end(), [&, &wanted = name](const TensorInfo& tensor) {
          return tensor.name == wanted;
        })) {
      fail_other_model(values, "it has " + name + ", which the config does not");
    }
  }
  WeightExport out(values, files, options.before_each_piece);
  for (std::size_t i = 0; i < dimensions.size(); ++i) {
    const TensorInfo& tensor = files.tensors()[i];
    out.write(tensor, sources.at(tensor.name), dimensions[i]);
  }
  files.finish();
}

}  // namespace strata::models
