// Writes and reads model directories for pretrained_roundtrip.py.
//
//   pretrained_program save DIR tied|untied fp32|bf16|fp16 FILE_BYTES_MAX
//   pretrained_program copy SOURCE DIR      loads a directory and saves it as finetune does
//   pretrained_program logits DIR FILE      logits of fixed tokens as raw fp32, [2, n_positions, V]

#include <fstream>
#include <iostream>
#include <string>

#include "models/small_gpt2.h"
#include "strata/base/error.h"
#include "strata/models/checkpoint.h"
#include "strata/models/gpt2.h"

namespace {

using namespace strata;

void save(const char* directory, const std::string& head, const std::string& precision,
          const char* file_bytes_max) {
  models::Gpt2Config config = models::small_gpt2();
  config.tie_word_embeddings = head == "tied";
  config.initializer_range = 0.2;
  models::Gpt2 model(config,
                     precision == "fp32"   ? Precision::kFp32
                     : precision == "bf16" ? Precision::kBf16
                                           : Precision::kFp16,
                     models::random_initializer(config, 1));
  models::save_pretrained(model, directory, {.file_bytes_max = std::stoull(file_bytes_max)});
}

models::Gpt2 load(const formats::ModelDirectory& directory) {
  const auto config = models::checkpoint_config(directory).as<models::Gpt2Config>();
  return {config, Precision::kFp32, models::checkpoint_initializer(config, directory)};
}

void copy(const char* source, const char* target) {
  const formats::ModelDirectory directory(source);
  models::Gpt2 model = load(directory);
  models::save_pretrained(model, target, {.source = &directory});
}

void write_logits(const char* path, const char* file) {
  torch::NoGradGuard no_grad;
  const formats::ModelDirectory directory(path);
  models::Gpt2 model = load(directory);
  const models::Gpt2Config& config = model.config();
  model.eval();
  const torch::Tensor tokens =
      (torch::arange(2 * config.n_positions) * 7 % config.vocab_size).view({2, -1});
  const torch::Tensor logits = model.forward(tokens).contiguous();
  std::ofstream(file, std::ios::binary)
      .write(static_cast<const char*>(logits.const_data_ptr()),
             static_cast<std::streamsize>(logits.nbytes()));
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const std::string command = count > 1 ? arguments[1] : "";
    if (command == "save" && count == 6) {
      save(arguments[2], arguments[3], arguments[4], arguments[5]);
    } else if (command == "copy" && count == 4) {
      copy(arguments[2], arguments[3]);
    } else if (command == "logits" && count == 4) {
      write_logits(arguments[2], arguments[3]);
    } else {
      std::cerr << "wrong arguments\n";
      return 2;
    }
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
