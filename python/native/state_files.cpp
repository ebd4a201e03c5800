#include "state_files.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <span>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/output_directory.h"
#include "strata/formats/safetensors.h"

namespace strata::python {
namespace {

formats::TensorInfo info_of(StateBank& bank, const SavedTensor& tensor) {
  const BankParameter& parameter = bank.parameters().at(tensor.parameter);
  const StateFormat& format = parameter.format();
  formats::TensorInfo info{.name = tensor.name, .shape = parameter.shape};
  info.bytes = StateBank::bytes_of(parameter, tensor.kind);
  info.dtype = formats::dtype_of(format, tensor.kind);
  if (tensor.kind != StateKind::kMaster && format.moments == MomentFormat::kInt8) {
    info.shape = {static_cast<std::int64_t>(info.bytes)};
  }
  return info;
}

std::string file_name(std::size_t number) {
  char name[40];
  std::snprintf(name, sizeof(name), "states-%05zu.safetensors", number);
  return name;
}

/// The open files of a directory, and the place in them of each of the tensors.
struct StateFiles {
  StateFiles(StateBank& bank, const std::filesystem::path& directory,
             const std::vector<SavedTensor>& tensors) {
    for (std::size_t number = 1; std::filesystem::exists(directory / file_name(number)); ++number) {
      files.emplace_back(directory / file_name(number));
    }
    for (const SavedTensor& tensor : tensors) {
      const formats::TensorInfo wanted = info_of(bank, tensor);
      const auto file = std::ranges::find_if(
          files, [&](const auto& candidate) { return candidate.find(tensor.name) != nullptr; });
      if (file == files.end()) {
        throw DataError("load optimizer states from " + directory.string() + ": no tensor '" +
                        tensor.name + "' in its files states-*.safetensors");
      }
      const formats::TensorInfo& there = *file->find(tensor.name);
      if (there.dtype != wanted.dtype || there.shape != wanted.shape) {
        throw DataError("load optimizer states from " + file->path().string() + ": '" +
                        tensor.name + "' is " + there.description() + " there and " +
                        wanted.description() +
                        " here; make the optimizer with the moments and master it was saved with");
      }
      found.emplace_back(&*file, &there);
    }
  }

  std::vector<formats::SafetensorsFile> files;
  std::vector<std::pair<const formats::SafetensorsFile*, const formats::TensorInfo*>> found;
};

}  // namespace

void save_states(StateBank& bank, const std::filesystem::path& directory,
                 const std::vector<SavedTensor>& tensors, std::uint64_t file_bytes,
                 const std::string& manifest_name, const std::string& manifest) {
  std::vector<formats::TensorInfo> infos;
  std::uint64_t total = manifest.size();
  for (const SavedTensor& tensor : tensors) {
    infos.push_back(info_of(bank, tensor));
    total += infos.back().bytes;
  }
  formats::OutputDirectory out(directory);
  out.require_space(total);
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < tensors.size();) {
    std::size_t end = begin + 1;
    std::uint64_t bytes = infos[begin].bytes;
    while (end < tensors.size() && bytes + infos[end].bytes <= file_bytes) {
      bytes += infos[end++].bytes;
    }
    formats::SafetensorsWriter file(out.path() / file_name(++number),
                                    {infos.begin() + static_cast<std::ptrdiff_t>(begin),
                                     infos.begin() + static_cast<std::ptrdiff_t>(end)});
    for (; begin < end; ++begin) {
      bank.read(bank.parameters().at(tensors[begin].parameter), tensors[begin].kind,
                [&](std::span<const std::byte> piece) { file.append(piece); });
    }
    file.finish();
  }
  formats::write_text(out.path() / manifest_name, manifest);
  out.publish();
}

void check_states(StateBank& bank, const std::filesystem::path& directory,
                  const std::vector<SavedTensor>& tensors) {
  static_cast<void>(StateFiles(bank, directory, tensors));
}

void load_states(StateBank& bank, const std::filesystem::path& directory,
                 const std::vector<SavedTensor>& tensors) {
  const StateFiles files(bank, directory, tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& [file, tensor] = files.found[i];
    std::uint64_t at = 0;
    bank.write(bank.parameters()[tensors[i].parameter], tensors[i].kind,
               [&, file = file, tensor = tensor](std::span<std::byte> piece) {
                 file->read(*tensor, at, piece);
                 at += piece.size();
               });
  }
}

}  // namespace strata::python
