"""transformers with torch and safetensors, which keep off the network. A test that imports them from
here is skipped, with the reason, where they are not installed."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import safetensors.torch
    import torch
    import transformers
except ImportError as error:
    print(f"skipped: {error}; tools/setup.sh --test installs it")
    sys.exit(77)

transformers.utils.logging.disable_progress_bar()

# How from_config and from_pretrained are to compute experts: the default takes no odd sizes.
ONE_BY_ONE = {"experts_implementation": "eager"}
