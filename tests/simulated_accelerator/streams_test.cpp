#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <future>

#include "simulated_accelerator/simulated_accelerator.h"

namespace strata::simulated::streams_test {
namespace {

using support::Race;
using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::StartsWith;

auto is_race(const std::string& first, const std::string& second) {
  return testing::AllOf(Field(&Race::first, StartsWith(first)),
                        Field(&Race::second, StartsWith(second)));
}

class StreamsOfTheSimulatedAccelerator : public testing::Test {
 protected:
  torch::Tensor on_device(float value) {
    return torch::full({4}, value, torch::device(SimulatedAccelerator::torch_device()));
  }
  /// The host waits for all streams and tells nobody: from here on only the order is wrong.
  void settle() {
    for (const StreamRole role : {StreamRole::kCompute, StreamRole::kUpload}) {
      accelerator_.device().settle(role, kDeadline);
    }
  }

  SimulatedAccelerator accelerator_;
  const c10::Stream compute_ = SimulatedAccelerator::stream(StreamRole::kCompute);
  const c10::Stream upload_ = SimulatedAccelerator::stream(StreamRole::kUpload);
  const torch::Tensor ones_ = torch::ones({4});
};

TEST_F(StreamsOfTheSimulatedAccelerator, ReportAnUploadThatNoEventOrdersThoughTheValueIsRight) {
  torch::Tensor buffer;
  {
    const c10::StreamGuard on_upload(upload_);
    buffer = torch::empty({4}, torch::device(SimulatedAccelerator::torch_device()));
    buffer.copy_(ones_, /*non_blocking=*/true);
  }
  settle();
  const torch::Tensor doubled = buffer * 2;
  EXPECT_EQ(doubled.sum().item<float>(), 8);
  EXPECT_THAT(accelerator_.races(), ElementsAre(is_race("upload", "aten::mul")));
}

TEST_F(StreamsOfTheSimulatedAccelerator, ReportNothingOfAnUploadThatAnEventOrders) {
  torch::Tensor buffer;
  c10::Event uploaded(kDeviceType);
  {
    const c10::StreamGuard on_upload(upload_);
    buffer = torch::empty({4}, torch::device(SimulatedAccelerator::torch_device()));
    buffer.copy_(ones_, /*non_blocking=*/true);
    uploaded.record(upload_);
  }
  uploaded.block(compute_);
  buffer.record_stream(compute_);
  EXPECT_EQ((buffer * 2).sum().item<float>(), 8);
  buffer.reset();
  EXPECT_THAT(accelerator_.races(), IsEmpty());
}

TEST_F(StreamsOfTheSimulatedAccelerator, ReportABufferThatIsOverwrittenUnderAReader) {
  const torch::Tensor buffer = on_device(3);
  accelerator_.device().record(StreamRole::kCompute).synchronize(kDeadline);
  const torch::Tensor tripled = buffer * 3;
  settle();
  {
    const c10::StreamGuard on_upload(upload_);
    buffer.copy_(ones_, /*non_blocking=*/true);
  }
  EXPECT_EQ(tripled.sum().item<float>(), 36);
  EXPECT_THAT(accelerator_.races(), ElementsAre(is_race("aten::mul", "upload")));
}

TEST_F(StreamsOfTheSimulatedAccelerator, ReportATensorThatGoesBackWhileAnotherStreamReadsIt) {
  torch::Tensor x = on_device(3);
  c10::Event made(kDeviceType);
  made.record(compute_);
  made.block(upload_);
  {
    const c10::StreamGuard on_upload(upload_);
    const torch::Tensor y = x * 2;
    x.reset();  // record_stream is what is missing
  }
  EXPECT_THAT(accelerator_.races(), ElementsAre(is_race("aten::mul", "free")));
}

TEST_F(StreamsOfTheSimulatedAccelerator, AreTheSameForLibTorchAndForTheDevice) {
  support::SimDevice& device = accelerator_.device();
  const tiering::DeviceMemory memory = device.allocate(4 * sizeof(float), "weights");
  const torch::Tensor weights =
      torch::from_blob(reinterpret_cast<void*>(memory.span().address()), {4},
                       torch::device(SimulatedAccelerator::torch_device()).dtype(torch::kFloat));
  const std::span<const std::byte> home(static_cast<const std::byte*>(ones_.const_data_ptr()),
                                        ones_.nbytes());
  device.copy_to_device(StreamRole::kUpload, home, memory.span());
  device.wait(StreamRole::kCompute, device.record(StreamRole::kUpload));
  EXPECT_EQ((weights + 1).sum().item<float>(), 8);
  EXPECT_THAT(accelerator_.races(), IsEmpty());
}

TEST_F(StreamsOfTheSimulatedAccelerator, ReadPinnedMemoryLaterAndOtherMemoryBeforeTheCallReturns) {
  for (const bool pinned : {false, true}) {
    torch::Tensor host = torch::ones({4});
    if (pinned) host = host.pin_memory();
    ASSERT_EQ(host.is_pinned(), pinned);
    std::promise<void> go;
    accelerator_.device().run_on(StreamRole::kCompute, "held up", {}, {},
                                 [until = go.get_future().share()] { until.wait(); });
    const torch::Tensor x = host.to(SimulatedAccelerator::torch_device(), /*non_blocking=*/true);
    host.fill_(5);
    go.set_value();
    EXPECT_EQ(x.sum().item<float>(), pinned ? 20 : 4);
  }
}

TEST_F(StreamsOfTheSimulatedAccelerator, HoldUpTheHostForADownloadUnlessItIsAskedForLater) {
  const torch::Tensor x = on_device(7);
  const torch::Tensor later = torch::zeros({4}).pin_memory();
  std::promise<void> go;
  accelerator_.device().run_on(StreamRole::kCompute, "held up", {}, {},
                               [until = go.get_future().share()] { until.wait(); });
  later.copy_(x, /*non_blocking=*/true);
  EXPECT_FALSE(compute_.query());
  EXPECT_EQ(later.sum().item<float>(), 0);
  go.set_value();
  compute_.synchronize();
  EXPECT_TRUE(compute_.query());
  EXPECT_EQ(later.sum().item<float>(), 28);
  EXPECT_EQ(x.cpu().sum().item<float>(), 28);
}

TEST(DownloadFromTheSimulatedAccelerator, IsReportedWhenTheHostReadsItWithoutTheWait) {
  support::SimDeviceOptions options = SimulatedAccelerator::roomy();
  options.suppress_wait = 1;
  const SimulatedAccelerator accelerator(options);
  const torch::Tensor x = torch::ones({4}, torch::device(SimulatedAccelerator::torch_device()));
  EXPECT_EQ(x.sum().item<float>(), 4);
  EXPECT_THAT(accelerator.races(), ElementsAre(is_race("download", "read of a download")));
}

TEST_F(StreamsOfTheSimulatedAccelerator, KeepThePointThatAWaitWasForWhenAnEventIsRecordedAgain) {
  c10::Event event(kDeviceType);
  EXPECT_TRUE(event.query());
  event.record(compute_);
  event.block(upload_);
  std::promise<void> go;
  accelerator_.device().run_on(StreamRole::kCompute, "held up", {}, {},
                               [until = go.get_future().share()] { until.wait(); });
  event.record(compute_);
  upload_.synchronize();  // is not behind the second point
  EXPECT_FALSE(event.query());
  go.set_value();
  event.synchronize();
  EXPECT_TRUE(event.query());
}

TEST_F(StreamsOfTheSimulatedAccelerator, RunTheBackwardPassOfAnOperatorWhereItsForwardPassRan) {
  const torch::Tensor x = on_device(2).set_requires_grad(true);
  c10::Event made(kDeviceType);
  made.record(compute_);
  made.block(upload_);
  torch::Tensor y;
  {
    const c10::StreamGuard on_upload(upload_);
    y = (x * x).sum();
  }
  c10::Event computed(kDeviceType);
  computed.record(upload_);
  computed.block(compute_);
  y.backward();
  EXPECT_EQ(x.grad().sum().item<float>(), 16);
  EXPECT_THAT(accelerator_.races(), IsEmpty());
}

}  // namespace
}  // namespace strata::simulated::streams_test
