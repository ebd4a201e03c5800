#include <c10/core/Event.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <future>

#include "simulated_accelerator/simulated_accelerator.h"
#include "simulated_accelerator/small_modules.h"
#include "strata/base/error.h"

namespace strata::simulated::behaviour_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

/// The message of what `function` throws.
template <typename Function>
std::string message_of(const Function& function) {
  try {
    function();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

class SimulatedAcceleratorInLibTorch : public testing::Test {
 protected:
  /// Holds up a stream until the future is there.
  void hold_up(StreamRole role, std::shared_future<void> until) {
    accelerator_.device().run_on(role, "held up", {}, {}, [until] { until.wait(); });
  }

  const c10::Device device_ = SimulatedAccelerator::torch_device();
  SimulatedAccelerator accelerator_;
};

TEST_F(SimulatedAcceleratorInLibTorch, BuildsAQueueOfOperatorsBeforeTheFirstIsDone) {
  const torch::Tensor x = torch::randn({16, 16});
  const torch::Tensor on_device = x.to(device_);
  std::promise<void> go;
  hold_up(StreamRole::kCompute, go.get_future().share());
  torch::Tensor y = on_device;
  for (int i = 0; i < 20; ++i) y = torch::matmul(y, on_device).tanh();
  c10::Event done(kDeviceType);
  done.record(accelerator_.stream(StreamRole::kCompute));
  EXPECT_FALSE(done.query());
  go.set_value();

  torch::Tensor want = x;
  for (int i = 0; i < 20; ++i) want = torch::matmul(want, x).tanh();
  expect_same_bits(want, y);
  EXPECT_TRUE(done.query());
}

using SimulatedAcceleratorDeathTest = SimulatedAcceleratorInLibTorch;

TEST_F(SimulatedAcceleratorDeathTest, FaultsWhenHostCodeTouchesATensor) {
  const torch::Tensor x = torch::ones({4}, torch::device(device_));
  EXPECT_DEATH({ *static_cast<volatile float*>(x.data_ptr()) = 1; }, "");
}

TEST_F(SimulatedAcceleratorInLibTorch, FillsNewTensorsWithNaN) {
  const torch::Tensor fresh = torch::empty({8}, torch::device(device_));
  EXPECT_TRUE(fresh.isnan().all().item<bool>());
}

TEST_F(SimulatedAcceleratorInLibTorch, RefusesToComputeWithTensorsOfTwoDevices) {
  const torch::Tensor x = torch::ones({4}, torch::device(device_));
  const std::string message = message_of([&] { (void)(x + torch::ones({4})); });
  EXPECT_THAT(message, AllOf(HasSubstr("aten::add"), HasSubstr("all must be on one device")));
}

TEST_F(SimulatedAcceleratorInLibTorch, SaysWhatIsWrongWithArgumentsAtTheCall) {
  const torch::Tensor x = torch::ones({2, 3}, torch::device(device_));
  EXPECT_THAT(message_of([&] { (void)torch::matmul(x, x); }), HasSubstr("mat1 and mat2 shapes"));
  EXPECT_EQ((x + 1).sum().item<float>(), 12);  // the device works on
}

TEST_F(SimulatedAcceleratorInLibTorch, FailsForGoodWhenAKernelFails) {
  const torch::Tensor scores = torch::zeros({2, 3}, torch::device(device_));
  const torch::Tensor no_class = torch::full({2}, 7, torch::dtype(torch::kLong).device(device_));
  const auto lose = [&] { return torch::cross_entropy_loss(scores, no_class).item<float>(); };
  EXPECT_THROW((void)lose(), DeviceError);
  EXPECT_THAT(message_of([&] { (void)(scores + 1); }), HasSubstr("Target 7 is out of bounds"));
}

TEST_F(SimulatedAcceleratorInLibTorch, SaysThatASecondOneIsOneTooMany) {
  EXPECT_THROW(SimulatedAccelerator second, UsageError);
}

TEST_F(SimulatedAcceleratorInLibTorch, ComputesWithMemoryThatWasTakenFromItsDeviceDirectly) {
  support::SimDevice& device = accelerator_.device();
  const tiering::DeviceMemory slab = device.allocate(1_MiB, "slab");
  const DeviceSpan region = slab.span().subspan(4096, 4 * sizeof(float));
  c10::Storage storage(c10::Storage::use_byte_size_t(), region.bytes(),
                       at::DataPtr(nullptr, device_), nullptr, /*resizable=*/false);
  torch::Tensor x = torch::empty({0}, torch::device(device_));
  x.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
  x.unsafeGetTensorImpl()->set_sizes_contiguous({4});
  const auto point_to = [&](std::uintptr_t address) {
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(
        at::DataPtr(reinterpret_cast<void*>(address), device_));
  };

  point_to(region.address());
  x.fill_(2);
  const torch::Tensor y = x * 3;
  point_to(0);  // while the operators may still be under way
  EXPECT_EQ(y.sum().item<float>(), 24);
  EXPECT_THAT(message_of([&] { (void)(x * 3); }), HasSubstr("host_view"));

  storage.unsafeGetStorageImpl()->release_data_and_set_meta_custom_data_ptr_error_msg_("sharded");
  EXPECT_THAT(message_of([&] { (void)(x * 3); }), HasSubstr("sharded"));
}

TEST(OneSimulatedAcceleratorAfterTheOther, LetsTensorsOutliveIt) {
  torch::Tensor left;
  for (int round = 0; round < 2; ++round) {
    const SimulatedAccelerator accelerator;
    left = torch::ones({4}, torch::device(SimulatedAccelerator::torch_device()));
    EXPECT_EQ(left.sum().item<float>(), 4);
  }
  left.reset();
  EXPECT_THROW((void)torch::ones({4}, torch::device(SimulatedAccelerator::torch_device())),
               UsageError);
}

}  // namespace
}  // namespace strata::simulated::behaviour_test
