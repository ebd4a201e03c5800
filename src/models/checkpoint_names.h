#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "models/tensor_names.h"
#include "strata/formats/model_directory.h"

namespace strata::models {

/// The names of tensors in a directory's files, looked up by their names in transformers.
///
/// Parts that wrappers add to names are skipped: the components "_orig_mod" (torch.compile),
/// "module" (data parallelism), "_fsdp_wrapped_module" and "_checkpoint_wrapped_module", wherever
/// they stand, and a prefix that all names begin with. Files of a model without a head have no
/// TensorNames::prefix. In those of a larger model (text_part.h) the language model's names begin
/// with "language_model.", or with "model.language_model." in place of TensorNames::prefix; all
/// others are none of it.
class CheckpointNames {
 public:
  /// Throws DataError when two tensors of the files are the same parameter.
  CheckpointNames(const formats::ModelDirectory& directory, const TensorNames& family);

  /// Whether the files are of a larger model.
  [[nodiscard]] bool is_within() const { return is_within_; }
  /// Names in the files of what is not of the language model, sorted.
  [[nodiscard]] const std::vector<std::string>& others() const { return others_; }

  /// The name in the files of `name` ("transformer.wte.weight"); empty: there is none.
  [[nodiscard]] std::string in_files(std::string_view name) const;

  /// Name in transformers -> name in the files, of all tensors.
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& all() const {
    return names_;
  }

 private:
  /// Of a larger model: the name of a tensor of its language model on its own; empty: it is none.
  [[nodiscard]] static std::string within(std::string_view name, const TensorNames& family);

  bool is_within_;
  std::vector<std::string> others_;
  std::map<std::string, std::string, std::less<>> names_;
};

}  // namespace strata::models
