#include "zero3/ranks/together.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>

#include "strata/base/error.h"

namespace strata::zero3 {
namespace {

/// How a work went; a message that is too long is cut.
struct Outcome {
  enum class Kind : std::uint32_t { kDone, kIo, kData, kConfig, kBudget, kOther };
  Kind kind = Kind::kDone;
  std::int32_t code = 0;  // errno
  std::array<char, 1024> message{};
};

Outcome failed(const Error& error) {
  Outcome outcome{.kind = Outcome::Kind::kOther};
  if (const auto* const io = dynamic_cast<const IoError*>(&error)) {
    outcome.kind = Outcome::Kind::kIo;
    outcome.code = io->code();
  } else if (dynamic_cast<const DataError*>(&error) != nullptr) {
    outcome.kind = Outcome::Kind::kData;
  } else if (dynamic_cast<const ConfigError*>(&error) != nullptr) {
    outcome.kind = Outcome::Kind::kConfig;
  } else if (dynamic_cast<const BudgetError*>(&error) != nullptr) {
    outcome.kind = Outcome::Kind::kBudget;
  }
  const std::string_view text = error.what();
  std::ranges::copy(text.substr(0, outcome.message.size() - 1), outcome.message.begin());
  return outcome;
}

[[noreturn]] void throw_as(const Outcome& outcome, std::size_t rank) {
  const std::string text = "rank " + std::to_string(rank) + ": " + outcome.message.data();
  switch (outcome.kind) {
    case Outcome::Kind::kIo: throw IoError(text, outcome.code);
    case Outcome::Kind::kData: throw DataError(text);
    case Outcome::Kind::kConfig: throw ConfigError(text);
    case Outcome::Kind::kBudget: throw BudgetError(text);
    default: throw Error(text);
  }
}

}  // namespace

void do_together(Ranks& ranks, const std::function<void()>& work) {
  if (ranks.size() == 1) {
    work();
    return;
  }
  Outcome own;
  std::exception_ptr thrown;
  try {
    work();
  } catch (const Error& error) {
    own = failed(error);
    thrown = std::current_exception();
  }
  const std::vector<Outcome> outcomes = ranks.gather_values(own);
  if (thrown) std::rethrow_exception(thrown);
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    if (outcomes[rank].kind != Outcome::Kind::kDone) throw_as(outcomes[rank], rank);
  }
}

}  // namespace strata::zero3
