#!/usr/bin/env python3
"""Makes the GGUF files of tests/golden/gguf with the package that llama.cpp's authors maintain.

    python3 -m venv venv
    venv/bin/pip install gguf==0.19.0 numpy==2.4.6
    venv/bin/python tests/golden/make_gguf.py tests/golden

TYPE.blocks: random blocks of a type, then the float32 values that gguf.dequantize makes of them. Scales reach from
subnormal to the largest and are of both signs; all other bits are random.
NAME.gguf: a tiny model of this folder, with the rows of q and k in the order of llama.cpp's converters. Its logits
are those of NAME/golden.safetensors. NAME-TYPE.gguf: its linears in blocks, where whole blocks fit. The same versions give the same files.
"""
import json
import pathlib
import sys

import gguf
import numpy as np

BLOCKS = 24
# Number of float16 scales in front (or, negative, at the end) of a block.
BLOCK_TYPES = {"Q8_0": 1, "Q4_0": 1, "Q4_1": 2, "Q5_0": 1, "Q5_1": 2, "Q4_K": 2, "Q5_K": 2, "Q6_K": -1}
EXTREME_SCALES = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x7bff, 0xfbff], np.uint16)


def make_blocks(folder, name, scales, generator):
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = generator.integers(0, 256, (BLOCKS, size), np.uint8)
    usual = generator.standard_normal((BLOCKS, abs(scales))).astype(np.float16).view(np.uint16)
    usual[: len(EXTREME_SCALES)] = EXTREME_SCALES[:, None]
    place = slice(0, 2 * scales) if scales > 0 else slice(2 * scales, None)
    blocks[:, place] = usual.view(np.uint8)
    values = gguf.quants.dequantize(blocks, kind)
    assert values.dtype == np.float32 and values.shape == (BLOCKS, elements)
    (folder / f"{name}.blocks").write_bytes(blocks.tobytes() + values.tobytes())


NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        _, _, layer, stem = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[stem]}.{kind}"
    return f"{NAMES[stem]}.{kind}"


def interleave_halves(rows, heads):
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def read_safetensors(path):
    """Name, type and float32 values of every tensor; NumPy has no bfloat16."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in sorted(json.loads(data[8:start]).items()):
        if name == "__metadata__":
            continue
        first, last = (start + offset for offset in entry["data_offsets"])
        numbers = np.frombuffer(data[first:last], {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[entry["dtype"]])
        if entry["dtype"] == "BF16":
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        yield name, entry["dtype"], numbers.astype(np.float32).reshape(entry["shape"])


def make_model(folder, name, architecture, linears=None):
    """`linears`: the type of the blocks' linears that whole blocks fit; None: that of the folder."""
    config = json.loads((folder / name / "config.json").read_text())
    suffix = f"-{linears}" if linears else ""
    writer = gguf.GGUFWriter(folder / "gguf" / f"{name}{suffix}.gguf", architecture)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
        writer.add_rope_dimension_count(config["head_dim"])
    if architecture == "llama" and config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    for key, stored, x in read_safetensors(folder / name / "model.safetensors"):
        if architecture == "llama" and ".q_proj." in key:
            x = interleave_halves(x, config["num_attention_heads"])
        if architecture == "llama" and ".k_proj." in key:
            x = interleave_halves(x, config["num_key_value_heads"])
        in_blocks = linears and x.ndim == 2 and key.startswith("model.layers.") and x.shape[1] % 32 == 0
        kind = gguf.GGMLQuantizationType["F32" if x.ndim == 1 else linears if in_blocks else stored]
        writer.add_tensor(gguf_name(key), gguf.quants.quantize(np.ascontiguousarray(x), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    golden = pathlib.Path(sys.argv[1])
    (golden / "gguf").mkdir(exist_ok=True)
    for seed, (block_type, scale_count) in enumerate(BLOCK_TYPES.items()):
        make_blocks(golden / "gguf", block_type, scale_count, np.random.default_rng(seed))
    for model, kind in {"mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}.items():
        make_model(golden, model, kind)
    make_model(golden, "mistral", "llama", "Q4_0")
