#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "strata/tiering/activation_store.h"

namespace strata::zero3 {

/// Takes the values from a tensor that no one else looks at: sizes, type, version counter and graph
/// stay, and its memory comes back when no other tensor shares it.
void take_values(const torch::Tensor& tensor);

/// The inputs of units on their way through an ActivationStore, as tensors. Thread: the engine's.
class Activations {
 public:
  /// The values of one tensor, in the store until nobody holds this any more; null: none are there.
  using Away = std::shared_ptr<const tiering::ActivationTicket>;

  Activations(const tiering::ActivationRoom& room, const tiering::ActivationStore::Places& places,
              c10::Device device, Counters& counters)
      : device_(*places.device), torch_device_(device), store_(room, places, counters) {}
  ~Activations();
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  /// Takes the values of an activation: numbers on the device that need a gradient, a page or more.
  /// Whoever shares its memory still finds them there. A tensor whose values are in the store
  /// already, unchanged, is not taken twice. Null for anything else, and when the store is full.
  /// Throws what ActivationStore::put throws.
  [[nodiscard]] Away put(const torch::Tensor& tensor);

  /// A new tensor like `form`, a leaf that needs a gradient, with these values. Throws what
  /// ActivationStore::bring throws.
  [[nodiscard]] torch::Tensor bring(const Away& away, const torch::Tensor& form);

  /// Says that what is put from now on is wanted before all that was put so far.
  void begin_group() { store_.begin_group(); }

  [[nodiscard]] tiering::ActivationReading reading() const { return store_.reading(); }

 private:
  /// Memory that the device has not read to the end.
  struct Leaving {
    c10::Storage storage;
    tiering::Event left;
  };
  /// A tensor in the store, to be known again.
  struct Known {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;
    std::int64_t offset;
    std::uint32_t version;
    std::weak_ptr<const tiering::ActivationTicket> away;
  };

  [[nodiscard]] bool is_wanted(const torch::Tensor& tensor) const;
  [[nodiscard]] Away find(const torch::Tensor& tensor);
  void let_go(std::size_t kept);

  tiering::Device& device_;
  const c10::Device torch_device_;
  tiering::ActivationStore store_;
  std::deque<Leaving> leaving_;
  std::vector<Known> known_;
};

}  // namespace strata::zero3
