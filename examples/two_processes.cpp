// The loop of minimal.cpp on several processes, each with a part of every batch:
//
//     torchrun --no-python --nproc-per-node 2 two_processes ds_config.json
//
// docs/launching.md has other ways to start it. One process trains the same numbers, up to the
// rounding of sums.
#include <strata/zero3/engine.h>
#include <strata/zero3/join.h>
#include <torch/torch.h>

#include <cstdio>

class BlockImpl : public torch::nn::Module {
 public:
  explicit BlockImpl(int width)
      : norm_(register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({width})))),
        up_(register_module("up", torch::nn::Linear(width, 4 * width))),
        down_(register_module("down", torch::nn::Linear(4 * width, width))) {}

  torch::Tensor forward(torch::Tensor x) { return x + down_(torch::gelu(up_(norm_(x)))); }

 private:
  torch::nn::LayerNorm norm_;
  torch::nn::Linear up_, down_;
};
TORCH_MODULE(Block);

int main(int count, char** arguments) try {
  const auto world = strata::World::of_this_process();
  const auto ranks = strata::join(world);
  torch::manual_seed(1);  // the same model, and here the same batches, on every rank
  auto config = strata::formats::DsConfig::from_file(count > 1 ? arguments[1] : "ds_config.json");
  strata::Engine engine(std::move(config), {.ranks = ranks.get()});
  std::vector<strata::Sharded<Block>> blocks;
  for (int i = 0; i < 4; ++i) {
    blocks.push_back(engine.shard(Block(64), {.name = "blocks." + std::to_string(i)}));
  }

  for (int step = 1; step <= 10; ++step) {
    auto batch = torch::randn({32, 64});
    auto x = batch.chunk(world.size)[world.rank], target = x.sin();  // this rank's part
    auto y = x;
    for (auto& block : blocks) y = block(y);
    auto loss = torch::mse_loss(y.to(torch::kFloat32), target);
    engine.backward(loss);
    engine.step();
    std::printf("rank %d step %d loss %.8f\n", world.rank, step, loss.item<double>());
    std::fflush(stdout);
  }
} catch (const strata::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
