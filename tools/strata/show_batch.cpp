#include "show_batch.h"

#include <algorithm>
#include <cstddef>
#include <ostream>
#include <utility>

#include "plural.h"

namespace strata::tool {
namespace {

/// Tokens that follow one another, and all bear loss or none does.
struct Run {
  std::vector<std::int64_t> tokens;
  bool bears = false;
};

/// A document of a sequence; padding has no loss anywhere.
struct ShownDocument {
  std::vector<Run> runs;
  std::size_t bearing = 0, tokens = 0;

  void add(std::int64_t token, bool bears) {
    if (runs.empty() || runs.back().bears != bears) runs.push_back({.tokens = {}, .bears = bears});
    runs.back().tokens.push_back(token);
    ++tokens;
    bearing += bears ? 1 : 0;
  }
};

std::vector<ShownDocument> documents_of(const Batch& batch) {
  std::vector<ShownDocument> documents;
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    const bool begins = i == 0 || (!batch.positions.empty() && batch.positions[i] == 0);
    if (begins) documents.emplace_back().add(batch.tokens[i], false);
    const bool ends =
        i + 1 == batch.tokens.size() || (!batch.positions.empty() && batch.positions[i + 1] == 0);
    const bool bears = batch.targets[i] != kNoLoss;
    if (ends && !bears) continue;  // the token behind the last one is not known
    documents.back().add(ends ? batch.targets[i] : batch.tokens[i + 1], bears);
  }
  return documents;
}

}  // namespace

void show_batch(const BatchSampler& sampler, std::int64_t count, const TextOfTokens& text_of,
                std::ostream& out) {
  out << "What bears loss stands between « and ».\n";
  for (std::int64_t sequence = 0; sequence < count; ++sequence) {
    const std::vector<ShownDocument> documents =
        documents_of(sampler.batch(static_cast<std::uint64_t>(sequence)));
    std::vector<std::vector<std::int64_t>> runs;
    std::size_t tokens = 0, bearing = 0;
    for (const ShownDocument& document : documents) {
      if (document.bearing == 0) continue;
      for (const Run& run : document.runs) runs.push_back(run.tokens);
      tokens += document.tokens;
      bearing += document.bearing;
    }
    const std::vector<std::string> texts = text_of(runs);
    out << "\nSequence " << sequence + 1 << ": " << counted(tokens, "token") << ", " << bearing
        << " with loss\n";
    std::size_t next = 0;
    bool is_first = true;
    for (const ShownDocument& document : documents) {
      if (document.bearing == 0) {
        out << "---- padding: " << counted(document.tokens, "token") << '\n';
        continue;
      }
      if (!std::exchange(is_first, false)) out << "----\n";
      for (const Run& run : document.runs) {
        out << (run.bears ? "«" : "") << texts[next++] << (run.bears ? "»" : "");
      }
      out << '\n';
    }
  }
}

}  // namespace strata::tool
