#include "inspect.h"

#include <algorithm>
#include <cstdint>
#include <iomanip>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "plural.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/checkpoint_directory.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/formats/model_directory.h"
#include "strata/formats/safetensors.h"

namespace strata::tool {
namespace {

namespace fs = std::filesystem;
using formats::TensorInfo;

/// A table of tensors, and what they come to.
void print_tensors(std::ostream& out, const std::vector<const TensorInfo*>& tensors) {
  std::size_t name_width = 0, kind_width = 0;
  std::uint64_t bytes = 0, elements = 0;
  for (const TensorInfo* const tensor : tensors) {
    name_width = std::max(name_width, tensor->name.size());
    kind_width = std::max(kind_width, tensor->description().size());
    bytes += tensor->bytes;
    elements += tensor->elements();
  }
  for (const TensorInfo* const tensor : tensors) {
    out << "  " << std::left << std::setw(static_cast<int>(name_width)) << tensor->name << "  "
        << std::setw(static_cast<int>(kind_width)) << tensor->description() << "  " << tensor->bytes
        << '\n';
  }
  out << "  " << counted(tensors.size(), "tensor") << ", " << counted(elements, "element") << ", "
      << format_bytes(bytes) << '\n';
}

void print_file(std::ostream& out, const formats::SafetensorsFile& file) {
  out << file.path().filename().string() << '\n';
  std::vector<const TensorInfo*> tensors;
  for (const TensorInfo& tensor : file.tensors()) tensors.push_back(&tensor);
  print_tensors(out, tensors);
}

/// Reads every byte of a file. Throws IoError for what the disk does not give back.
formats::Crc32 read_all(const fs::path& path, const Interruption& interruption) {
  return formats::checksum_of(path, 0, fs::file_size(path), [&] { interruption.check(); });
}

void inspect_checkpoint(const fs::path& path, const InspectOptions& options, std::ostream& out,
                        const Interruption& interruption) {
  const auto manifest = formats::CheckpointManifest::read(path);
  const formats::CheckpointHead& head = manifest.head();
  out << "checkpoint " << head.tag << ": after " << counted(head.step, "step");
  if (head.micro_steps > 0) out << " and " << counted(head.micro_steps, "micro-batch") << " more";
  out << ", written by " << counted(head.world_size, "rank") << '\n';
  formats::require_files(manifest);
  for (const formats::CheckpointFile& file : head.files) {
    if (!file.name.ends_with(".safetensors")) continue;
    out << '\n';
    print_file(out, formats::SafetensorsFile(path / file.name));
  }
  if (!options.verify) return;
  for (const formats::CheckpointFile& file : head.files) {
    formats::require_checksum(manifest, file, read_all(path / file.name, interruption));
  }
}

void inspect_model(const InspectOptions& options, std::ostream& out,
                   const Interruption& interruption) {
  const formats::ModelDirectory model(options.path);
  out << "model of " << counted(model.file_names().size(), "file") << '\n';
  std::vector<const TensorInfo*> tensors;
  for (const std::string& name : model.names()) tensors.push_back(model.find(name));
  print_tensors(out, tensors);
  if (!options.verify) return;
  for (const std::string& name : model.file_names()) {
    if (const auto file = model.find_file(name)) (void)read_all(*file, interruption);
  }
}

void inspect_directory(const InspectOptions& options, std::ostream& out,
                       const Interruption& interruption) {
  if (fs::exists(options.path / formats::kManifestName)) {
    inspect_checkpoint(options.path, options, out, interruption);
    return;
  }
  const std::optional<std::string> latest = formats::latest_tag(options.path);
  if (!latest) {
    inspect_model(options, out, interruption);
    return;
  }
  out << "checkpoints, the newest first:";
  for (const std::string& tag : formats::checkpoint_tags(options.path)) out << ' ' << tag;
  out << "\n\n";
  inspect_checkpoint(options.path / *latest, options, out, interruption);
}

}  // namespace

void inspect(const InspectOptions& options, std::ostream& out, const Interruption& interruption) {
  if (fs::is_directory(options.path)) {
    inspect_directory(options, out, interruption);
  } else {
    print_file(out, formats::SafetensorsFile(options.path));
    if (options.verify) (void)read_all(options.path, interruption);
  }
  out << (options.verify ? "\nsound: every byte was read\n"
                         : "\nsound, by headers and sizes (--verify reads every byte)\n");
}

}  // namespace strata::tool
