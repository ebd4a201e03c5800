// Runs a fuzz target without libFuzzer: over seeds, and over mutants of them that a number repeats.
// It finds less than libFuzzer, which sees the branches that an input reaches, but any compiler
// builds it, so that it can stand among the tests.
//
// Usage: mutants RUNS FILE_OR_DIRECTORY...
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "support/torture.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBytesMax = 8192;

/// Pieces of the languages that the targets read, and numbers at the edges of types.
constexpr std::array<std::string_view, 34> kWords = {"{",
                                                     "}",
                                                     "[",
                                                     "]",
                                                     ":",
                                                     ",",
                                                     "\"",
                                                     "\\",
                                                     "\n",
                                                     "null",
                                                     "true",
                                                     "0",
                                                     "-1",
                                                     "1e999",
                                                     "-0.0",
                                                     "../",
                                                     "/",
                                                     ".",
                                                     "..",
                                                     "GiB",
                                                     "KB",
                                                     "e",
                                                     "\\u",
                                                     "//",
                                                     "/*",
                                                     "'''",
                                                     "9223372036854775807",
                                                     "9223372036854775808",
                                                     "18446744073709551616",
                                                     "4294967296",
                                                     "\xff",
                                                     "\xed\xa0\x80",
                                                     std::string_view("\0", 1),
                                                     " "};

class Mutator {
 public:
  Mutator(const std::vector<std::string>& seeds, std::uint64_t number)
      : seeds_(seeds), random_(number) {}

  std::string mutant() {
    std::string text = seeds_[below(seeds_.size())];
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) change(text);
    text.resize(std::min(text.size(), kBytesMax));
    return text;
  }

 private:
  std::size_t below(std::size_t bound) { return random_() % std::max<std::size_t>(bound, 1); }

  void change(std::string& text) {
    const std::size_t place = below(text.size() + 1);
    const std::size_t length = std::min(1 + below(16), text.size() - place);
    switch (below(6)) {
      case 0:
        if (place < text.size()) text[place] = static_cast<char>(text[place] ^ (1 << below(8)));
        break;
      case 1: text.erase(place, length); break;
      case 2: text.insert(place, text.substr(place, length)); break;
      case 3: text.insert(place, kWords[below(kWords.size())]); break;
      case 4: text.replace(place, length, kWords[below(kWords.size())]); break;
      default: {
        const std::string& other = seeds_[below(seeds_.size())];
        text.resize(place);
        text += other.substr(below(other.size() + 1));
      }
    }
  }

  const std::vector<std::string>& seeds_;
  std::mt19937_64 random_;
};

void read_seeds(const fs::path& path, std::vector<std::string>& seeds) {
  if (fs::is_directory(path)) {
    std::vector<fs::path> files(fs::directory_iterator(path), {});
    std::sort(files.begin(), files.end());  // a number stands for the same mutant everywhere
    for (const fs::path& file : files) read_seeds(file, seeds);
    return;
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  seeds.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

void run(const std::string& input, const std::string& what) {
  try {
    (void)LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  } catch (const std::exception& error) {
    std::cerr << what << " fails: " << error.what() << "\n---- the input\n" << input << '\n';
    std::exit(1);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: mutants RUNS FILE_OR_DIRECTORY...\n";
    return 2;
  }
  std::vector<std::string> seeds;
  for (int i = 2; i < count; ++i) read_seeds(arguments[i], seeds);
  for (std::size_t i = 0; i < seeds.size(); ++i) run(seeds[i], "seed " + std::to_string(i));
  const std::uint64_t runs = std::strtoull(arguments[1], nullptr, 10);
  const std::uint64_t first = (strata::support::torture_seed() - 1) * runs;
  for (std::uint64_t number = first; number < first + runs; ++number) {
    run(Mutator(seeds, number).mutant(), "mutant " + std::to_string(number));
  }
  std::cout << seeds.size() << " seeds and " << runs << " mutants\n";
  return 0;
}
