// A LibTorch training loop whose parameters, gradients and optimizer states live where the config
// says: `minimal ds_config.json`.
#include <strata/zero3/engine.h>
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

int main(int count, char** arguments) {
  torch::manual_seed(1);
  auto engine = strata::Engine::from_config(count > 1 ? arguments[1] : "ds_config.json");
  std::vector<strata::Sharded<Block>> blocks;
  for (int i = 0; i < 4; ++i) {
    blocks.push_back(engine.shard(Block(64), {.name = "blocks." + std::to_string(i)}));
  }

  for (int step = 1; step <= 10; ++step) {
    auto x = torch::randn({32, 64}), target = x.sin();
    auto y = x;
    for (auto& block : blocks) y = block(y);
    auto loss = torch::mse_loss(y.to(torch::kFloat32), target);  // y may be bf16 or fp16
    engine.backward(loss);
    engine.step();
    std::printf("step %d loss %.8f\n", step, loss.item<double>());
  }
}
