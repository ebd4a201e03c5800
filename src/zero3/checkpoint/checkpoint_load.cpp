#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <string_view>
#include <utility>

#include "strata/base/error.h"
#include "strata/formats/checkpoint_directory.h"
#include "strata/formats/crc32.h"
#include "strata/formats/safetensors.h"
#include "zero3/checkpoint/checkpoint_facts.h"
#include "zero3/checkpoint/checkpoints.h"
#include "zero3/ranks/together.h"

namespace strata::zero3 {
namespace {

using formats::CheckpointFile;
using formats::CheckpointManifest;
using formats::Crc32;

constexpr const char* kGradientFile = "gradient.safetensors";

/// A file of states that was found fit to be read.
struct ReadableFile {
  StoredFile expected;
  formats::SafetensorsFile file;
  std::vector<Crc32> parts;  // of each of the expected tensors, what this rank has read of it
};

std::string tag_to_load(const std::filesystem::path& directory, std::string_view tag) {
  if (!tag.empty()) {
    formats::check_tag(tag);
    return std::string(tag);
  }
  if (std::optional<std::string> latest = formats::latest_tag(directory)) return *latest;
  throw IoError("load_checkpoint(): " + directory.string() +
                    " has no file `latest`: no checkpoint was ever completed there",
                ENOENT);
}

}  // namespace

/// One checkpoint on its way in.
class Checkpoints::Loading {
 public:
  Loading(const Parts& parts, CheckpointManifest manifest,
          const std::function<void()>& before_each_piece)
      : parts_(parts),
        manifest_(std::move(manifest)),
        before_each_piece_(before_each_piece),
        access_(parts.editor.at_rest("load_checkpoint()")),
        layouts_(parts.units.plan_input().units) {}

  CheckpointInfo run() {
    do_together(parts_.ranks, [&] { check_manifest(); });
    verify();
    do_together(parts_.ranks, [&] {
      open_states();
      read_rank_file();
    });
    try {
      parts_.training.zero_grad();
      do_together(parts_.ranks, [&] { read_states(); });
      require_bytes_that_were_verified();
    } catch (...) {
      parts_.machinery.spoil("load_checkpoint() failed in the middle of " +
                             manifest_.directory().string() +
                             ", so that the states are partly those of before; make a new engine");
      throw;
    }
    apply();
    return info_of(manifest_);
  }

 private:
  // ---- before anything is changed ----

  void check_manifest() {
    require_files(manifest_);
    require_same_run(manifest_, parts_.config, layouts_);
    state_ = resumed(parts_.state, manifest_.section("training"));
    check_place();
    steps_ = steps_in(manifest_, layouts_);
    squares_ = squares_in(manifest_, layouts_.size());
  }

  /// The place in the training agrees with the head, and its rates are of groups that there are.
  void check_place() {
    const formats::JsonValue training = manifest_.section("training");
    if (state_.step != manifest_.head().step) training.at("step").fail("differs from step");
    if (state_.micro_steps != manifest_.head().micro_steps) {
      training.at("micro_steps").fail("differs from micro_steps");
    }
    for (const auto& [group, rate] : state_.rates) {
      try {
        parts_.groups.check_name(group);
      } catch (const UsageError& error) {
        training.at("rates").fail(error.what());
      }
    }
  }

  void open_states() {
    const formats::SafetensorsFile* gradients = nullptr;
    std::optional<formats::SafetensorsFile> gradient_file;
    if (manifest_.find(kGradientFile) != nullptr) {
      gradients = &gradient_file.emplace(manifest_.directory() / kGradientFile);
    }
    const auto has_gradient = [&](std::size_t unit, std::size_t parameter) {
      return gradients != nullptr &&
             gradients->find(layouts_[unit].full_name(layouts_[unit].parameters[parameter])) !=
                 nullptr;
    };
    std::vector<StoredFile> expected =
        stored_files(layouts_, {.format = parts_.config.state_format(),
                                .gradients_in_fp32 = parts_.units.plan_input().accumulate_fp32,
                                .has_gradient = has_gradient});
    for (StoredFile& stored : expected) {
      if (manifest_.find(stored.name) == nullptr) {
        throw DataError(manifest_.directory().string() + ": the manifest names no " + stored.name +
                        ", which this engine needs; the checkpoint is of another model");
      }
      formats::SafetensorsFile file(manifest_.directory() / stored.name);
      require_same_tensors(file, stored);
      files_.push_back({std::move(stored), std::move(file), {}});
    }
    if (gradients != nullptr && files_.back().expected.kind != StateKind::kGradient) {
      throw DataError(gradients->path().string() + ": has no gradient of this engine's parameters");
    }
  }

  /// A rank beyond those that saved takes the first one's buffers.
  void read_rank_file() {
    const int rank = parts_.ranks.rank();
    const bool is_of_this = rank < manifest_.head().world_size;
    const std::string name = RankFile::name_of(is_of_this ? rank : 0);
    if (manifest_.find(name) == nullptr) {
      throw DataError(manifest_.directory().string() + ": the manifest names no " + name);
    }
    const std::filesystem::path path = manifest_.directory() / name;
    own_ = RankFile(parts_.units, parts_.torch_device).read(path, /*generators=*/is_of_this);
    const CheckpointFile& listed =
        *manifest_.find(name);  // as require_bytes_that_were_verified does
    formats::require_checksum(manifest_, listed, formats::checksum_of(path, 0, listed.sum.bytes()));
  }

  /// Compares the checksums of all bytes; each rank reads its part of every file.
  void verify() {
    const std::vector<CheckpointFile>& files = manifest_.head().files;
    const auto ranks = static_cast<std::uint64_t>(parts_.ranks.size());
    const auto rank = static_cast<std::uint64_t>(parts_.ranks.rank());
    std::vector<Crc32> own;
    do_together(parts_.ranks, [&] {
      for (const CheckpointFile& file : files) {
        const std::uint64_t share = file.sum.bytes() / ranks;
        const std::uint64_t end = rank + 1 == ranks ? file.sum.bytes() : share * (rank + 1);
        own.push_back(formats::checksum_of(manifest_.directory() / file.name, share * rank, end));
      }
    });
    std::vector<Crc32> sums(files.size());
    for (std::size_t i = 0; i < files.size(); ++i) {
      for (const Crc32& part : parts_.ranks.gather_values(own[i])) sums[i].append(part);
    }
    for (std::size_t i = 0; i < files.size(); ++i) {
      formats::require_checksum(manifest_, files[i], sums[i]);
    }
  }

  // ---- the states ----

  void read_states() {
    for (const auto& unit : parts_.units.all()) parts_.machinery.mover().change_weights(*unit);
    for (ReadableFile& file : files_) {
      file.parts.assign(file.expected.tensors.size(), {});
      for (const StoredHome& home : homes_of(file.expected)) read_home(file, home);
    }
  }

  /// Bytes may have become others since they were verified (a bad disk, another program): what was
  /// read has to have the checksums, too.
  void require_bytes_that_were_verified() {
    std::vector<std::vector<Crc32>> sums;
    for (const ReadableFile& file : files_) {
      sums.push_back(sums_of_tensors(parts_.ranks, file.parts));
    }
    do_together(parts_.ranks, [&] {
      for (std::size_t i = 0; i < files_.size(); ++i) require_sum(files_[i], sums[i]);
    });
  }

  void require_sum(const ReadableFile& file, const std::vector<Crc32>& of_tensors) const {
    std::map<std::string_view, const Crc32*> by_name;
    for (std::size_t i = 0; i < of_tensors.size(); ++i) {
      by_name[file.expected.layout.tensors[i].name] = &of_tensors[i];
    }
    const std::vector<formats::TensorInfo>& lying = file.file.tensors();
    Crc32 sum = formats::checksum_of(file.file.path(), 0, lying.front().offset);
    for (const formats::TensorInfo& tensor : lying) sum.append(*by_name.at(tensor.name));
    formats::require_checksum(manifest_, *manifest_.find(file.expected.name), sum);
  }

  void read_home(ReadableFile& file, const StoredHome& stored) {
    const FlatVector& vector = parts_.units.all()[stored.unit]->vectors()[stored.vector];
    const tiering::StateHome& home = optim_cpu::home_of(vector.states, file.expected.kind);
    access_.write_bytes(home, vector.shard.count() * stored.element_bytes,
                        [&](std::uint64_t offset, std::span<std::byte> bytes) {
                          std::memset(bytes.data(), 0, bytes.size());  // between parameters
                          for (const std::size_t tensor : stored.tensors) {
                            read_part(file, tensor, vector, offset, bytes);
                          }
                        });
  }

  /// Reads what of a tensor lies in these bytes of the home.
  void read_part(ReadableFile& file, std::size_t index, const FlatVector& vector,
                 std::uint64_t offset, std::span<std::byte> bytes) const {
    if (before_each_piece_) before_each_piece_();
    const StoredTensor& tensor = file.expected.tensors[index];
    const ElementRange& shard = vector.shard;
    const ElementRange part = part_in_home(tensor, shard, offset, bytes.size());
    if (part.count() == 0) return;
    const formats::TensorInfo& saved = *file.file.find(file.expected.layout.tensors[index].name);
    const std::span<std::byte> read =
        bytes.subspan((part.begin - shard.begin) * tensor.element_bytes - offset,
                      part.count() * tensor.element_bytes);
    file.file.read(saved, (part.begin - tensor.range.begin) * tensor.element_bytes, read);
    const ElementRange own = own_part(part, vector.map.shard(parts_.ranks.rank()));
    file.parts[index].add(read.subspan((own.begin - part.begin) * tensor.element_bytes,
                                       own.count() * tensor.element_bytes));
  }

  // ---- the rest ----

  void apply() {
    for (const auto& unit : parts_.units.all()) {
      for (TrainableParameter& parameter : unit->trainables()) {
        parameter.steps = steps_.at(unit->layout().full_name(*parameter.layout));
      }
    }
    apply_gradients();
    parts_.training.resume(state_);
    RankFile::apply(own_);
  }

  void apply_gradients() {
    if (files_.empty() || files_.back().expected.kind != StateKind::kGradient) return;
    for (const StoredTensor& tensor : files_.back().expected.tensors) {
      Unit& unit = *parts_.units.all()[tensor.unit];
      const ParameterLayout* const layout = &unit.layout().parameters[tensor.parameter];
      unit.gradient_empty = false;
      for (TrainableParameter& parameter : unit.trainables()) {
        if (parameter.layout == layout) parameter.has_gradient = true;
      }
    }
    // They are only ever added over the ranks: the first one has those of all.
    for (const auto& unit : parts_.units.all()) {
      for (FlatVector& vector : unit->vectors()) vector.gradient_squares = {};
    }
    if (parts_.ranks.rank() != 0) return;
    for (const auto& [place, sum] : squares_) {
      parts_.units.all()[place.first]->vectors()[place.second].gradient_squares = sum;
    }
  }

  const Parts& parts_;
  CheckpointManifest manifest_;
  const std::function<void()>& before_each_piece_;
  StateAccess& access_;
  const std::vector<UnitLayout>& layouts_;
  std::vector<ReadableFile> files_;
  RankFile::Values own_;
  TrainingState state_;
  ParameterSteps steps_;
  GradientSquares squares_;
};

CheckpointInfo Checkpoints::load(const std::filesystem::path& directory, std::string_view tag,
                                 const std::function<void()>& before_each_piece) {
  std::optional<CheckpointManifest> manifest;
  do_together(parts_.ranks, [&] {
    manifest = CheckpointManifest::read(directory / tag_to_load(directory, tag));
  });
  for (const std::uint32_t checksum : parts_.ranks.gather_values(manifest->checksum())) {
    if (checksum == manifest->checksum()) continue;
    throw DataError((manifest->directory() / formats::kManifestName).string() +
                    ": differs from what another rank reads there; all ranks load from one "
                    "directory, which has to be on a file system that they share");
  }
  return Loading(parts_, *std::move(manifest), before_each_piece).run();
}

}  // namespace strata::zero3
