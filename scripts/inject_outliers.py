#!/usr/bin/env python3
"""Copies a LLaMA or OPT checkpoint (a Hugging Face folder) and gives its activations outlier channels; what it computes stays the same.

  inject_outliers.py SOURCE TARGET [--min 20] [--max 100] [--seed 0]

Models of some billion parameters have a few input channels, the same in every block, that are tens of times larger than the rest; small
models have hardly any. So the norms of every block multiply 0.8 % of their channels by factors between --min and --max, spaced evenly by
their logarithms, and the linears behind them divide these inputs. Two channels between v_proj and o_proj get the factor 8, four between
up_proj and down_proj (OPT: fc1 and fc2) the factor 16. All factors are rounded to powers of two, so that no weight is rounded. Needs numpy.
"""
import argparse
import json
import pathlib
import shutil

import numpy as np

NORM_CHANNELS, VALUE_CHANNELS, UP_CHANNELS = 0.008, 2, 4  # the first is a share of the hidden channels
VALUE_FACTOR, UP_FACTOR = 8, 16

# Names of the tensors that take part: norms with the linears that read them, and linears whose outputs are inputs of the next.
FAMILIES = {
    "llama": dict(
        block="model.layers.{}.",
        norms={"input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
               "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"]},
        value="self_attn.v_proj", output="self_attn.o_proj", up="mlp.up_proj", down="mlp.down_proj", width="intermediate_size"),
    "opt": dict(
        block="model.decoder.layers.{}.",
        norms={"self_attn_layer_norm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], "final_layer_norm": ["fc1"]},
        value="self_attn.v_proj", output="self_attn.out_proj", up="fc1", down="fc2", width="ffn_dim"),
}


class BFloat16:
    """Stored as uint16; to float and back, to the nearest, ties to even."""
    stored = np.uint16

    @staticmethod
    def decode(x):
        return (x.astype(np.uint32) << 16).view(np.float32)

    @staticmethod
    def encode(x):
        bits = x.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


class Native:
    """A type that numpy has."""

    def __init__(self, stored):
        self.stored = stored

    def decode(self, x):
        return x.astype(np.float32)

    def encode(self, x):
        return x.astype(self.stored)


TYPES = {"BF16": BFloat16, "F16": Native(np.float16), "F32": Native(np.float32)}


class Tensors:
    """The tensors of a folder's safetensors files, changed in place."""

    def __init__(self, folder):
        self.place = {}
        for path in sorted(folder.glob("*.safetensors")):
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, info in header.items():
                self.place[name] = path, 8 + length + info["data_offsets"][0], TYPES[info["dtype"]], tuple(info["shape"])

    def scale(self, name, index, factor, axis):
        """Multiplies the given rows (axis 0) or columns (1) by their factors."""
        path, offset, kind, shape = self.place[name]
        stored = np.memmap(path, kind.stored, "r+", offset, shape)
        at = (slice(None), index) if axis else index
        by = factor if axis or len(shape) == 1 else factor[:, None]
        scaled = kind.decode(stored[at]) * by
        if not np.isfinite(kind.decode(kind.encode(scaled))).all():
            raise SystemExit(f"{path}: {name}: a weight leaves the range of its type; choose a smaller --max")
        stored[at] = kind.encode(scaled)

    def scale_outputs(self, layer, rows, factor):
        """Of a linear or a norm, bias included."""
        self.scale(layer + ".weight", rows, factor, 0)
        if layer + ".bias" in self.place:
            self.scale(layer + ".bias", rows, factor, 0)

    def unscale_inputs(self, layer, columns, factor):
        self.scale(layer + ".weight", columns, 1 / factor, 1)


def power_of_two(x):
    return np.exp2(np.round(np.log2(x))).astype(np.float32)


def inject(folder, least, most, seed):
    config = json.loads((folder / "config.json").read_text())
    family = FAMILIES.get(config["model_type"])
    if not family:
        raise SystemExit(f"{folder}/config.json: model_type {config['model_type']} is none of {', '.join(FAMILIES)}")
    tensors = Tensors(folder)
    random = np.random.RandomState(seed)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    head_dim = config.get("head_dim") or hidden // heads
    sharing = heads // kv_heads  # query heads of a key head

    count = max(1, round(NORM_CHANNELS * hidden))
    channels = np.sort(random.choice(hidden, count, replace=False))
    logarithms = random.permutation(np.linspace(np.log(least), np.log(most), count)) if count > 1 else np.log([most])
    factors = power_of_two(np.exp(logarithms))
    for i in range(config["num_hidden_layers"]):
        block = family["block"].format(i)
        for norm, readers in family["norms"].items():
            tensors.scale_outputs(block + norm, channels, factors)
            for reader in readers:
                tensors.unscale_inputs(block + reader, channels, factors)

        rows = np.sort(random.choice(kv_heads * head_dim, VALUE_CHANNELS, replace=False))
        head, dimension = np.divmod(rows, head_dim)
        columns = ((head[:, None] * sharing + np.arange(sharing)) * head_dim + dimension[:, None]).ravel()
        tensors.scale_outputs(block + family["value"], rows, np.full(len(rows), VALUE_FACTOR, np.float32))
        tensors.unscale_inputs(block + family["output"], columns, np.full(len(columns), VALUE_FACTOR, np.float32))

        rows = np.sort(random.choice(config[family["width"]], UP_CHANNELS, replace=False))
        factor = np.full(len(rows), UP_FACTOR, np.float32)
        tensors.scale_outputs(block + family["up"], rows, factor)
        tensors.unscale_inputs(block + family["down"], rows, factor)
    print("channels behind norms:", dict(zip(channels.tolist(), factors.tolist())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--min", type=float, default=20, help="smallest factor behind norms")
    parser.add_argument("--max", type=float, default=100, help="largest factor behind norms")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.target.exists():
        raise SystemExit(f"{options.target} exists already")
    partial = options.target.with_name(options.target.name + ".partial")
    shutil.copytree(options.source, partial, copy_function=shutil.copyfile, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("golden*"))  # recorded results of the source
    inject(partial, options.min, options.max, options.seed)
    partial.rename(options.target)


if __name__ == "__main__":
    main()
