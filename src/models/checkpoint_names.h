#pragma once

#include <map>
#include <string>
#include <string_view>

#include "models/tensor_names.h"
#include "strata/formats/model_directory.h"

namespace strata::models {

/// The names of tensors in a directory's files, looked up by their names in transformers.
///
/// Parts that wrappers add to names are skipped: the components "_orig_mod" (torch.compile),
/// "module" (data parallelism), "_fsdp_wrapped_module" and "_checkpoint_wrapped_module", wherever
/// they stand, and a prefix that all names begin with. Files of a model without a head have no
/// TensorNames::prefix.
class CheckpointNames {
 public:
  /// Throws DataError when two tensors of the files are the same parameter.
  CheckpointNames(const formats::ModelDirectory& directory, const TensorNames& family);

  /// The name in the files of `name` ("transformer.wte.weight"); empty: there is none.
  [[nodiscard]] std::string in_files(std::string_view name) const;

  /// Name in transformers -> name in the files, of all tensors.
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& all() const {
    return names_;
  }

 private:
  std::map<std::string, std::string, std::less<>> names_;
};

}  // namespace strata::models
