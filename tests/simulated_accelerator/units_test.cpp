#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "simulated_accelerator/simulated_accelerator.h"
#include "simulated_accelerator/small_modules.h"

namespace strata::simulated::units_test {
namespace {

using testing::IsEmpty;
using tiering::DeviceMemory;
using tiering::Event;

constexpr std::size_t kUnits = 4;
constexpr std::size_t kLanes = 2;

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}
std::span<std::byte> bytes_of(std::vector<float>& values) {
  return std::as_writable_bytes(std::span(values));
}

/// Parameters and gradients of one module in one piece, as they come out of its layers.
std::vector<float> flat(const std::vector<torch::Tensor>& tensors) {
  std::vector<float> values;
  for (const torch::Tensor& tensor : tensors) {
    const torch::Tensor row = tensor.detach().contiguous().view({-1});
    const auto* const first = row.const_data_ptr<float>();
    values.insert(values.end(), first, first + row.numel());
  }
  return values;
}

/// A module whose weights live in host memory and are on the device while they are computed with.
struct Unit {
  std::shared_ptr<NormedMlp> module;
  std::vector<torch::Tensor> parameters;
  std::vector<float> home;
  std::vector<float> gradients;
  c10::Storage storage;  // holds all parameters; names the region where they are

  explicit Unit(std::uint64_t seed) : module(seeded<NormedMlp>(seed, torch::kFloat)) {
    parameters = module->parameters();
    home = flat(parameters);
    gradients.resize(home.size());
    storage = c10::Storage(c10::Storage::use_byte_size_t(), bytes_of(home).size(),
                           at::DataPtr(nullptr, kTorchDevice), nullptr, /*resizable=*/false);
    const torch::NoGradGuard no_grad;
    std::int64_t offset = 0;
    for (const torch::Tensor& parameter : parameters) {
      const torch::Tensor view = torch::empty({0}, torch::device(kTorchDevice));
      c10::TensorImpl& impl = *view.unsafeGetTensorImpl();
      impl.set_storage_keep_dtype(storage);
      impl.set_storage_offset(offset);
      impl.set_sizes_contiguous(parameter.sizes());
      offset += parameter.numel();
      parameter.unsafeGetTensorImpl()->shallow_copy_from(view.getIntrusivePtr());
    }
  }

  void attach(std::uintptr_t address) {
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(
        at::DataPtr(reinterpret_cast<void*>(address), kTorchDevice));
  }
};

/// Computes the gradients of units one after the other, two of them on the device at a time: each
/// is uploaded from a slot beside the computation of the one before, its gradients are drained from
/// a bucket beside that of the next. It makes every wait that this needs and none besides.
class DoubleBufferedUnits {
 public:
  explicit DoubleBufferedUnits(SimulatedAccelerator& accelerator) : device_(accelerator.device()) {
    for (std::size_t i = 0; i < kUnits; ++i) units_.emplace_back(i);
    bytes_ = bytes_of(units_[0].home).size();
    for (Lane& lane : lanes_) {
      lane.slot.resize(units_[0].home.size());
      lane.region = device_.allocate(bytes_, "region");
      lane.bucket = device_.allocate(bytes_, "bucket");
    }
  }
  ~DoubleBufferedUnits() {  // regions and buckets go back when all is over
    for (const StreamRole role : {StreamRole::kUpload, StreamRole::kCompute, StreamRole::kDrain}) {
      device_.settle(role, kDeadline);
    }
  }

  /// The gradients of all units, for the inputs.
  std::vector<std::vector<float>> gradients_for(const std::vector<torch::Tensor>& inputs) {
    for (std::size_t i = 0; i < kUnits; ++i) {
      Lane& lane = lanes_[i % kLanes];
      upload(units_[i], lane);
      compute(units_[i], lane, inputs[i]);
      drain(units_[i], lane);
    }
    lanes_[(kUnits - 1) % kLanes].bucket_free.synchronize(kDeadline);
    std::vector<std::vector<float>> gradients;
    for (Unit& unit : units_) {
      device_.host_access("read of gradients",
                          {support::range_of(bytes_of(std::as_const(unit.gradients)))}, {},
                          [&] { gradients.push_back(unit.gradients); });
    }
    return gradients;
  }

 private:
  struct Lane {
    std::vector<float> slot;
    DeviceMemory region;
    DeviceMemory bucket;
    Event slot_free;
    Event region_free;
    Event bucket_free;
  };

  void upload(const Unit& unit, Lane& lane) {
    lane.slot_free.synchronize(kDeadline);
    const std::span<std::byte> slot = bytes_of(lane.slot);
    device_.host_access("fetch", {}, {support::range_of(slot)},
                        [&] { std::ranges::copy(unit.home, lane.slot.begin()); });
    device_.wait(StreamRole::kUpload, lane.region_free);
    device_.copy_to_device(StreamRole::kUpload, slot, lane.region.span());
    lane.slot_free = device_.record(StreamRole::kUpload);
    device_.wait(StreamRole::kCompute, lane.slot_free);
  }

  void compute(Unit& unit, Lane& lane, const torch::Tensor& input) {
    unit.attach(lane.region.span().address());
    const torch::Tensor loss = unit.module->forward(input).pow(2).sum();
    const std::vector<torch::Tensor> gradients = torch::autograd::grad({loss}, unit.parameters);
    device_.wait(StreamRole::kCompute, lane.bucket_free);
    std::uintptr_t address = lane.bucket.span().address();
    for (const torch::Tensor& gradient : gradients) {
      torch::from_blob(reinterpret_cast<void*>(address), gradient.sizes(),
                       torch::device(kTorchDevice))
          .copy_(gradient);
      address += gradient.nbytes();
    }
    unit.attach(0);
    lane.region_free = device_.record(StreamRole::kCompute);
  }

  void drain(Unit& unit, Lane& lane) {
    device_.wait(StreamRole::kDrain, lane.region_free);
    device_.copy_to_host(StreamRole::kDrain, lane.bucket.span(), bytes_of(unit.gradients));
    lane.bucket_free = device_.record(StreamRole::kDrain);
  }

  support::SimDevice& device_;
  std::vector<Unit> units_;
  std::uint64_t bytes_ = 0;
  std::array<Lane, kLanes> lanes_;
};

struct Outcome {
  std::vector<std::vector<float>> gradients;
  std::vector<support::Race> races;
  std::vector<std::string> waits;
};

std::vector<torch::Tensor> inputs() {
  torch::manual_seed(7);
  std::vector<torch::Tensor> inputs;
  for (std::size_t i = 0; i < kUnits; ++i) inputs.push_back(torch::randn({8, 32}));
  return inputs;
}

Outcome run_on_device(const support::SimDeviceOptions& options) {
  SimulatedAccelerator accelerator(options);
  std::vector<torch::Tensor> on_device;
  for (const torch::Tensor& input : inputs()) on_device.push_back(input.to(kTorchDevice));
  DoubleBufferedUnits units(accelerator);
  Outcome outcome;
  outcome.gradients = units.gradients_for(on_device);
  outcome.races = accelerator.races();
  outcome.waits = accelerator.waits();
  return outcome;
}

std::vector<std::vector<float>> gradients_on_cpu() {
  const std::vector<torch::Tensor> on_cpu = inputs();
  std::vector<std::vector<float>> gradients;
  for (std::size_t i = 0; i < kUnits; ++i) {
    const auto module = seeded<NormedMlp>(i, torch::kFloat);
    const torch::Tensor loss = module->forward(on_cpu[i]).pow(2).sum();
    gradients.push_back(flat(torch::autograd::grad({loss}, module->parameters())));
  }
  return gradients;
}

TEST(DoubleBufferedUnitsOnTheSimulatedAccelerator, HaveTheBitsOfTheCpuAndNoReport) {
  const auto want = gradients_on_cpu();
  for (const std::uint64_t seed : {1, 2, 3}) {
    support::SimDeviceOptions options = SimulatedAccelerator::roomy();
    options.seed = seed;
    options.max_delay = std::chrono::microseconds(300);
    const Outcome outcome = run_on_device(options);
    EXPECT_EQ(outcome.gradients, want);
    EXPECT_THAT(outcome.races, IsEmpty());
  }
}

TEST(DoubleBufferedUnitsOnTheSimulatedAccelerator, AreReportedWithoutAnyOneOfTheirWaits) {
  const std::vector<std::string> waits = run_on_device(SimulatedAccelerator::roomy()).waits;
  // Uploads and drains wait for computations, these for both, the host for slots and at the end.
  ASSERT_EQ(waits.size(), 2 * kUnits + 3 * (kUnits - kLanes) + 1);
  for (std::size_t i = 0; i < waits.size(); ++i) {
    SCOPED_TRACE("without the wait of " + waits[i]);
    support::SimDeviceOptions options = SimulatedAccelerator::roomy();
    options.suppress_wait = i + 1;
    EXPECT_FALSE(run_on_device(options).races.empty());
  }
}

}  // namespace
}  // namespace strata::simulated::units_test
