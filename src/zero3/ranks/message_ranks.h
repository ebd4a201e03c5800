#pragma once

#include <chrono>
#include <memory>

#include "zero3/ranks/messenger.h"
#include "zero3/ranks/ranks.h"

namespace strata::zero3 {

/// Ranks that are processes, over messages between each two of them. A thread of this rank's own
/// carries out one collective after the other: it tells all ranks which one it has come to, hears
/// the same of them, compares, and lets the bytes go straight to where they belong. So calls that
/// differ are found before a byte is received.
///
/// A rank that does not go on ends the run on all others, with the errors of `ranks.h`; the message
/// says which collective each was at. RankFailure: a rank whose connection is closed, at once; one
/// that leaves, at once; one that is stopped or cut off, within `silence`. DeadlineExceeded: a rank
/// that is there and does not come.
///
/// After an error nothing more is received to the memory of any collective.
class MessageRanks final : public Ranks {
 public:
  struct Options {
    int rank = 0;
    int size = 1;
    std::chrono::milliseconds deadline{600'000};  ///< of a single wait
    std::chrono::milliseconds silence{10'000};    ///< after which a rank is lost; see RankWatch
  };
  /// `data` carries the bytes, `control` what ranks tell one another beside them: other
  /// connections, or a large message would hold up the small ones. They carry nothing else.
  MessageRanks(const Options& options, std::unique_ptr<Messenger> data,
               std::unique_ptr<Messenger> control);
  /// Tells the others that this rank leaves; two seconds at most.
  ~MessageRanks() override;
  MessageRanks(const MessageRanks&) = delete;
  MessageRanks& operator=(const MessageRanks&) = delete;

  [[nodiscard]] int rank() const noexcept override { return options_.rank; }
  [[nodiscard]] int size() const noexcept override { return options_.size; }

 private:
  class Exchange;
  class Pending;
  Collective begin(const CollectiveCall& call) override;

  const Options options_;
  std::shared_ptr<Exchange> exchange_;
};

}  // namespace strata::zero3
