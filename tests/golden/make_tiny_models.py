#!/usr/bin/env python3
"""Makes the tiny random models of this folder and their golden logits, with Hugging Face Transformers.

    python3 -m venv venv
    venv/bin/pip install transformers==4.57.1 torch==2.11.0 safetensors==0.8.0
    venv/bin/python tests/golden/make_tiny_models.py tests/golden

Every subfolder is a checkpoint (config.json, model.safetensors) with golden.safetensors: `ids` [T] and, computed in
float32 from the stored weights with eager attention, `logits` [T, vocab_size]. Weights and activations are far from
the small values of a usual initialization, so that a wrong formula shows. The same versions give the same files;
qwen3-mixed was made with transformers 5.24.0 and torch 2.15.0, which give the other logits within 1e-5.
"""
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

VOCAB, TOKENS = 96, 40

# Small sizes, different wherever they may be.
MODELS = {
    "opt": (torch.float16, transformers.OPTConfig(
        vocab_size=VOCAB, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64)),
    "mistral": (torch.bfloat16, transformers.MistralConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, sliding_window=16)),
    "qwen2": (torch.float32, transformers.Qwen2Config(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True)),
    "qwen3": (torch.float16, transformers.Qwen3Config(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, max_position_embeddings=64)),
    "falcon-7b": (torch.float16, transformers.FalconConfig(  # one key-value head, one norm a block
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, multi_query=True,
        parallel_attn=True, new_decoder_architecture=False, bias=False, alibi=False, max_position_embeddings=64)),
    "falcon-40b": (torch.float16, transformers.FalconConfig(  # grouped queries, two norms a block
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2,
        new_decoder_architecture=True, bias=False, alibi=False, max_position_embeddings=64)),
    "falcon-sequential": (torch.float16, transformers.FalconConfig(  # MLP behind attention, biases
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, multi_query=False,
        parallel_attn=False, new_decoder_architecture=False, bias=True, alibi=False, max_position_embeddings=64)),
    "bloom": (torch.float16, transformers.BloomConfig(  # three heads: no power of two for ALiBi
        vocab_size=VOCAB, hidden_size=24, n_layer=2, n_head=3)),
    "qwen3-mixed": (torch.float16, transformers.Qwen3Config(  # a sliding window in some layers
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, max_position_embeddings=64, use_sliding_window=True, sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
}


def randomize(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name or "ln_" in name:
            value = 0.2 * noise if name.endswith("bias") else 1 + 0.3 * noise
        elif name.endswith("bias"):
            value = 0.2 * noise
        elif "embed" in name:
            value = noise
        else:
            value = 0.25 * noise
        parameter.data.copy_(value)


def make(folder, dtype, config, seed):
    generator = torch.Generator().manual_seed(seed)
    config._attn_implementation = "eager"
    config.dtype = dtype
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomize(model, generator)
    model.to(dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # Loaded again, because a conversion and back would leave the rotary frequencies rounded.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(VOCAB, (1, TOKENS), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits[0]
    save_file({"ids": ids[0].to(torch.int32), "logits": logits}, folder / "golden.safetensors")


if __name__ == "__main__":
    for seed, (name, (dtype, config)) in enumerate(MODELS.items()):
        folder = pathlib.Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, dtype, config, seed)
        print(name, sum(f.stat().st_size for f in folder.iterdir()), "bytes")
