#pragma once

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <utility>
#include <vector>

#include "zero3/unit.h"

namespace strata::zero3 {

/// The surroundings of a body beside its inputs and parameters, as they were when this was made:
/// random generators (LibTorch's default ones of the host and of the device, and those that the
/// unit names), autocast, and the unit's buffers. Recomputation runs from them, so that it computes
/// the same again and leaves no trace.
///
/// Buffers in host memory are kept as lazy clones: one that the body does not write to costs
/// nothing. Those on another device are copied.
class BodySurroundings {
 public:
  explicit BodySurroundings(const Unit& unit);

  /// The settings for one type of device.
  struct Autocast {
    at::DeviceType device;
    bool enabled;
    at::ScalarType type;
  };

  /// Drops the buffers that the body left as they were. Call it when the body has run.
  void keep_what_changed();

  /// Puts everything back as it was for as long as the scope lasts; afterwards all is again what it
  /// was before the scope. The buffers' memory changes places, so their version counters tell
  /// nothing of it. The inner graph's backward belongs into the scope: it may have saved buffers.
  class Restored {
   public:
    explicit Restored(const BodySurroundings& earlier);
    ~Restored();
    Restored(const Restored&) = delete;
    Restored& operator=(const Restored&) = delete;

   private:
    std::vector<std::pair<at::Generator, torch::Tensor>> generators_now_;
    std::vector<std::pair<torch::Tensor, c10::Storage>> buffers_now_;
    std::vector<Autocast> autocast_now_;
  };

  /// Puts everything back for good: the body is to run from the start once more.
  void restore() const;

 private:
  struct Buffer {
    std::vector<torch::Tensor> tensors;  // tensors that share one storage
    c10::Storage earlier;
  };
  std::vector<std::pair<at::Generator, torch::Tensor>> generators_;
  std::vector<Buffer> buffers_;
  std::vector<Autocast> autocast_;
};

/// For the length of a scope autocast remembers no casts: it would remember those of parameters
/// whose values change, and those made without gradients.
class NoAutocastCache {
 public:
  NoAutocastCache() : before_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~NoAutocastCache() { at::autocast::set_autocast_cache_enabled(before_); }
  NoAutocastCache(const NoAutocastCache&) = delete;
  NoAutocastCache& operator=(const NoAutocastCache&) = delete;

 private:
  bool before_;
};

}  // namespace strata::zero3
