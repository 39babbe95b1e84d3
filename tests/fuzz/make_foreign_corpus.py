#!/usr/bin/env python3
"""Writes corpus/foreign: one small linear in each layout that foreign_fuzz.cc reads.

A file is a line with the quantization_config, then a safetensors file. Numbers are random, seeded.
Usage: make_foreign_corpus.py corpus/foreign
"""
import json
import pathlib
import random
import struct
import sys

SIZES = {"I64": 8, "I32": 4, "F32": 4, "F16": 2, "I8": 1, "U8": 1}
WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
SCHEME = {"targets": ["Linear"], "weights": WEIGHTS}
PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
LAYERS = {  # config; tensors: type, shape, content
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False},
             {"qweight": ("I32", [8, 32]), "qzeros": ("I32", [2, 4]), "scales": ("F16", [2, 32]),
              "g_idx": ("I32", [64], [i % 2 for i in range(64)])}),
    "gptq-3-bits": ({"quant_method": "gptq", "bits": 3, "group_size": 32, "sym": False},
                    {"qweight": ("I32", [6, 32]), "qzeros": ("I32", [2, 3]), "scales": ("F16", [2, 32])}),
    "awq": ({"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True},
            {"qweight": ("I32", [64, 4]), "qzeros": ("I32", [2, 4]), "scales": ("F16", [2, 32])}),
    "qqq": ({"quant_method": "qqq", "wbits": 4, "group_size": -1},
            {"B": ("I32", [8, 128]), "s_channel": ("F32", [1, 64])}),
    "qqq-g128": ({"quant_method": "qqq", "wbits": 4, "group_size": 128},
                 {"B": ("I32", [8, 128]), "s_channel": ("F32", [1, 64]), "s_group": ("F16", [1, 64])}),
    "ct-packed": ({**PACKED, "config_groups": {"group_0": SCHEME}},
                  {"weight_packed": ("I32", [16, 8]), "weight_shape": ("I64", [2], [16, 64]),
                   "weight_scale": ("F16", [16, 2])}),
    "ct-bytes": ({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"group_0": {
                     **SCHEME, "weights": {**WEIGHTS, "num_bits": 8, "strategy": "channel", "group_size": None}}}},
                 {"weight": ("I8", [16, 32]), "weight_scale": ("F32", [16, 1])}),
    "tessera": ({"quant_method": "tessera", "version": 1, "recipe": None, "activation": {"bits": 8}},
                {"qweight": ("U8", [16, 32]), "scale": ("F32", [16]), "group_scale": ("I8", [16, 2], [3] * 32),
                 "group_zero": ("U8", [16, 2], [8] * 32)})}


def content(kind, shape, values=None):
    count = 1
    for extent in shape:
        count *= extent
    if values is not None:
        return struct.pack(f"<{count}{ {'I64': 'q', 'I32': 'i', 'I8': 'b', 'U8': 'B'}[kind]}", *values)
    if kind in ("F32", "F16"):
        return struct.pack(f"<{count}{'f' if kind == 'F32' else 'e'}", *(random.uniform(0.01, 1) for _ in range(count)))
    return random.randbytes(count * SIZES[kind])


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (config, tensors) in LAYERS.items():
        random.seed(name)
        header, data = {}, b""
        for tensor, description in sorted(tensors.items(), key=lambda item: -SIZES[item[1][0]]):
            part = content(*description)
            header["mlp.up_proj." + tensor] = {"dtype": description[0], "shape": description[1],
                                              "data_offsets": [len(data), len(data) + len(part)]}
            data += part
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / name).write_bytes(json.dumps(config).encode() + b"\n" + struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
