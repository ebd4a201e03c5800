#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/checkpoint_directory.h"
#include "strata/formats/crc32.h"
#include "strata/formats/writable_file.h"
#include "zero3/checkpoint/checkpoint_facts.h"
#include "zero3/checkpoint/checkpoints.h"
#include "zero3/ranks/together.h"
#include "zero3/reduction.h"

namespace strata::zero3 {
namespace {

using formats::Crc32;
using formats::WritableFile;

/// Bytes that pass through the cache at a time.
constexpr std::size_t kAtOnce = std::size_t{1} << 20;

/// Room for the manifest and for what is a rank's own, beside its buffers.
constexpr std::uint64_t kRoomForSmallFiles = 1_MiB;

std::span<const std::byte> head_of(const formats::SafetensorsLayout& layout) {
  return std::as_bytes(std::span(layout.head));
}

/// A file of states while this rank writes its part of it.
struct OpenFile {
  const StoredFile* stored;
  WritableFile file;
  std::vector<Crc32> parts{};  // of each tensor, what this rank wrote
};

/// Whether a weight of that format is Inf or NaN: all bits of its exponent are set.
template <class Bits>
bool has_nonfinite(std::span<const std::byte> weights, Bits exponent) {
  bool found = false;
  for (std::size_t at = 0; at < weights.size(); at += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, weights.data() + at, sizeof bits);
    found |= (bits & exponent) == exponent;
  }
  return found;
}

bool has_nonfinite(std::span<const std::byte> weights, Precision precision) {
  switch (precision) {
    case Precision::kFp16: return has_nonfinite<std::uint16_t>(weights, 0x7C00);
    case Precision::kBf16: return has_nonfinite<std::uint16_t>(weights, 0x7F80);
    case Precision::kFp32: break;
  }
  return has_nonfinite<std::uint32_t>(weights, 0x7F800000);
}

ParameterSteps steps_of(const UnitRegistry& units) {
  ParameterSteps steps;
  for (const auto& unit : units.all()) {
    for (const TrainableParameter& parameter : unit->trainables()) {
      steps[unit->layout().full_name(*parameter.layout)] = parameter.steps;
    }
  }
  return steps;
}

/// Which parameters have a gradient, by unit and place in its layout.
std::vector<std::vector<bool>> parameters_with_gradient(const UnitRegistry& units) {
  std::vector<std::vector<bool>> all;
  for (const auto& unit : units.all()) {
    std::vector<bool>& of_unit = all.emplace_back(unit->parameters().size());
    if (unit->gradient_empty) continue;
    for (const TrainableParameter& parameter : unit->trainables()) {
      const auto place = parameter.layout - unit->layout().parameters.data();
      of_unit[static_cast<std::size_t>(place)] = parameter.has_gradient;
    }
  }
  return all;
}

}  // namespace

/// One checkpoint on its way out.
class Checkpoints::Saving {
 public:
  Saving(const Parts& parts, const std::filesystem::path& directory, std::string tag,
         const CheckpointOptions& options)
      : parts_(parts),
        directory_(directory),
        options_(options),
        info_{.tag = std::move(tag),
              .path = directory / info_.tag,
              .step = parts.state.step,
              .micro_steps = parts.state.micro_steps,
              .world_size = parts.ranks.size(),
              .program = options.program},
        partial_(formats::CheckpointOutput::partial_path(directory, info_.tag)),
        access_(parts.editor.at_rest("save_checkpoint()")),
        layouts_(parts.units.plan_input().units) {}

  CheckpointInfo run() {
    const std::vector<std::vector<bool>> with_gradient = parameters_with_gradient(parts_.units);
    files_ = stored_files(
        layouts_, {.format = parts_.config.state_format(),
                   .gradients_in_fp32 = parts_.units.plan_input().accumulate_fp32,
                   .has_gradient = [&](auto unit, auto i) { return with_gradient[unit][i]; }});
    parts_.optimizer.check_gradients_for_checkpoint();
    const GradientSquares squares = gradient_squares();
    do_together(parts_.ranks, [&] { begin(); });
    Crc32 own;
    do_together(parts_.ranks, [&] {
      write_states();
      own = RankFile(parts_.units, parts_.torch_device)
                .write(partial_ / RankFile::name_of(parts_.ranks.rank()));
    });
    const formats::CheckpointHead head = head_with_sums(own);
    do_together(parts_.ranks, [&] { publish(head, squares); });
    prune();
    return info_;
  }

 private:
  [[nodiscard]] bool is_first() const { return parts_.ranks.rank() == 0; }

  GradientSquares gradient_squares() {
    GradientSquares squares;
    for (const auto& unit : parts_.units.all()) {
      if (unit->gradient_empty) continue;
      for (std::size_t i = 0; i < unit->vectors().size(); ++i) {
        const FlatVector& vector = unit->vectors()[i];
        if (vector.trains()) {
          squares[{unit->id(), i}] = sum_over(parts_.ranks, vector.gradient_squares);
        }
      }
    }
    return squares;
  }

  /// The first rank makes all files, of their size, with their heads.
  void begin() {
    if (!is_first()) return;
    std::ignore = formats::manifest_text({.tag = info_.tag, .program = info_.program}, {});
    output_.emplace(directory_, info_.tag);
    output_->require_space(stored_bytes(files_) + kRoomForSmallFiles);
    for (const StoredFile& stored : files_) {
      WritableFile file =
          WritableFile::create_with_room(partial_ / stored.name, stored.layout.bytes);
      file.write(0, head_of(stored.layout));
      open_.push_back({&stored, std::move(file)});
    }
  }

  void open_files_of_first() {
    if (!std::filesystem::exists(partial_)) {
      throw IoError("save_checkpoint(): " + partial_.string() +
                        ", which rank 0 has made, is not there for this rank; all ranks write into "
                        "one directory, which has to be on a file system that they share",
                    ENOENT);
    }
    for (const StoredFile& stored : files_) {
      open_.push_back({&stored, WritableFile::open(partial_ / stored.name)});
    }
  }

  void write_states() {
    if (!is_first()) open_files_of_first();
    for (OpenFile& file : open_) {
      file.parts.resize(file.stored->tensors.size());
      for (const StoredHome& home : homes_of(*file.stored)) write_home(file, home);
    }
    for (OpenFile& file : open_) file.file.sync_and_close();
  }

  void write_home(OpenFile& file, const StoredHome& stored) {
    const FlatVector& vector = parts_.units.all()[stored.unit]->vectors()[stored.vector];
    const tiering::StateHome& home = optim_cpu::home_of(vector.states, file.stored->kind);
    access_.read_bytes(home, vector.shard.count() * stored.element_bytes,
                       [&](std::uint64_t offset, std::span<const std::byte> bytes) {
                         for (const std::size_t tensor : stored.tensors) {
                           write_part(file, tensor, vector, offset, bytes);
                         }
                       });
  }

  /// Writes what of a tensor lies in these bytes of the home and is this rank's to write.
  void write_part(OpenFile& file, std::size_t index, const FlatVector& vector, std::uint64_t offset,
                  std::span<const std::byte> bytes) const {
    const StoredTensor& tensor = file.stored->tensors[index];
    const ElementRange& shard = vector.shard;
    const ElementRange part = own_part(part_in_home(tensor, shard, offset, bytes.size()),
                                       vector.map.shard(parts_.ranks.rank()));
    std::span<const std::byte> left =
        bytes.subspan((part.begin - shard.begin) * tensor.element_bytes - offset,
                      part.count() * tensor.element_bytes);
    std::uint64_t place = tensor.offset + (part.begin - tensor.range.begin) * tensor.element_bytes;
    while (!left.empty()) {
      if (options_.before_each_piece) options_.before_each_piece();
      const std::span<const std::byte> piece = left.first(std::min(kAtOnce, left.size()));
      if (file.stored->kind == StateKind::kWeight &&
          has_nonfinite(piece, vector.format.precision)) {
        refuse_weights(tensor);
      }
      file.parts[index].add(piece);
      file.file.write(place, piece);
      place += piece.size();
      left = left.subspan(piece.size());
    }
  }

  [[noreturn]] void refuse_weights(const StoredTensor& tensor) const {
    const UnitLayout& layout = layouts_[tensor.unit];
    throw DataError("save_checkpoint(): parameter '" +
                    layout.full_name(layout.parameters[tensor.parameter]) +
                    "' holds weights that are not finite, so that nothing can go on from it; the "
                    "run has diverged: go back to the last checkpoint, with a smaller learning "
                    "rate or in a format with more range");
  }

  /// The checksum of a file of states: its head, then every tensor.
  Crc32 sum_of(const OpenFile& file) {
    Crc32 sum;
    sum.add(head_of(file.stored->layout));
    for (const Crc32& tensor : sums_of_tensors(parts_.ranks, file.parts)) sum.append(tensor);
    return sum;
  }

  formats::CheckpointHead head_with_sums(const Crc32& own) {
    formats::CheckpointHead head{.tag = info_.tag,
                                 .step = info_.step,
                                 .micro_steps = info_.micro_steps,
                                 .world_size = info_.world_size,
                                 .files = {},
                                 .program = info_.program};
    for (const OpenFile& file : open_) head.files.push_back({file.stored->name, sum_of(file)});
    const std::vector<Crc32> of_ranks = parts_.ranks.gather_values(own);
    for (std::size_t rank = 0; rank < of_ranks.size(); ++rank) {
      head.files.push_back({RankFile::name_of(static_cast<int>(rank)), of_ranks[rank]});
    }
    return head;
  }

  void publish(const formats::CheckpointHead& head, const GradientSquares& squares) {
    if (!is_first()) return;
    const ParameterSteps steps = steps_of(parts_.units);
    output_->publish(formats::manifest_text(
        head, sections_of({parts_.config, layouts_, parts_.state, steps, squares})));
  }

  void prune() {
    if (!is_first()) return;
    try {
      output_->prune(options_.keep);
    } catch (const IoError& error) {
      parts_.log.warning(std::string(error.what()) +
                         "; the new checkpoint is complete, and an older one stays");
    }
  }

  const Parts& parts_;
  const std::filesystem::path& directory_;
  const CheckpointOptions& options_;
  CheckpointInfo info_;
  std::filesystem::path partial_;
  StateAccess& access_;
  const std::vector<UnitLayout>& layouts_;
  std::vector<StoredFile> files_;
  std::optional<formats::CheckpointOutput> output_;  // of the first rank
  std::vector<OpenFile> open_;
};

CheckpointInfo Checkpoints::save(const std::filesystem::path& directory, std::string_view tag,
                                 const CheckpointOptions& options) {
  std::string name = tag.empty() ? checkpoint_tag(parts_.state.step) : std::string(tag);
  formats::check_tag(name);
  return Saving(parts_, directory, std::move(name), options).run();
}

}  // namespace strata::zero3
