#!/usr/bin/env python3
"""Judges `tessera convert` with the other tools' own code: read_exports.py TESSERA GOLDEN

GOLDEN holds tiny models that the libraries wrote, with the SHA-256 of every dequantized weight (make_foreign_models.py).
Each is converted to every format that holds it; the library of that format unpacks the weights, which must have the
same digests.
"""
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

CASES = {
    "ct-w4a16-g32": ["gptq", "gptq_v2", "awq", "compressed-tensors", "gguf:q4_0", "gguf:q4_1", "gguf:q8_0", "hf"],
    "ct-w4a16-g32-zeros": ["gptq_v2", "awq", "compressed-tensors", "gguf:q8_0", "hf"],
    "ct-w4a8": ["compressed-tensors", "gptq", "awq", "gguf:q4_0", "hf"],
    "ct-w8a8": ["compressed-tensors", "gptq", "gguf:q8_0", "hf"],
    "ct-w8a8-static": ["compressed-tensors", "hf"],
    "gptq-zeros": ["gptq", "gptq_v2", "awq", "compressed-tensors", "gguf:q8_0", "hf"],
    "gptq-act-order": ["gptq", "gptq_v2", "hf"],
    "gptq-w8": ["gptq_v2", "compressed-tensors", "gguf:q8_0", "hf"],
    "awq-g32": ["awq", "gptq_v2", "compressed-tensors", "hf"],
    "qqq": ["qqq", "compressed-tensors", "gptq", "awq", "gguf:q4_0"],
    "qqq-g128": ["compressed-tensors"],
}


def module_arguments(section, inputs, outputs):
    return {"bits": section["bits"], "group_size": section["group_size"], "sym": section.get("sym", False),
            "desc_act": section.get("desc_act", False), "in_features": inputs, "out_features": outputs}


def compressed_tensors(section, tensors):
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    config = QuantizationConfig(**{key: value for key, value in section.items() if key != "quant_method"})
    (scheme,) = config.config_groups.values()
    state = {key: value.float() if key == "weight_scale" else value for key, value in tensors.items()}
    kind = BaseCompressor.get_value_from_registry(scheme.format or config.format)
    return kind.decompress(state, scheme)["weight"].float()


def gptq(section, tensors):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    outputs, inputs = tensors["qweight"].shape[1], tensors["qweight"].shape[0] * 32 // section["bits"]
    module = TorchLinear(**module_arguments(section, inputs, outputs))
    for key, value in tensors.items():
        module.register_buffer(key, value.float() if key == "scales" else value)
    if section["checkpoint_format"] == "gptq":
        from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module
        convert_gptq_v1_to_v2_format_module(module, bits=section["bits"], pack_dtype=torch.int32)
    module.post_init()
    return module.dequantize_weight().T.float()


def awq(section, tensors):
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    size = section["group_size"] if section["group_size"] > 0 else tensors["qweight"].shape[0]
    return dequantize_gemm(tensors["qweight"], tensors["qzeros"], tensors["scales"].float(), 4, size).T.float()


def qqq(section, tensors):
    from gptqmodel.nn_modules.qlinear.qqq import QQQTorchLinear

    inputs, outputs = tensors["B"].shape[0] * 16, tensors["B"].shape[1] // 2
    module = QQQTorchLinear(**module_arguments(section, inputs, outputs))
    for key, value in tensors.items():
        module.register_buffer(key, value)
    module.post_init()
    weight, scales = module._dequantize_weight_for_torch()
    return (weight * scales).T


def floats(_, tensors):
    return tensors["weight"].float()


DECODERS = {"compressed-tensors": compressed_tensors, "gptq": gptq, "gptq_v2": gptq, "awq": awq, "qqq": qqq, "hf": floats}


def linears_of(folder, target, names):
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for shard in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(shard)
    for name in names:
        own = {key.removeprefix(name + "."): value for key, value in tensors.items() if key.startswith(name + ".")}
        yield name, DECODERS[target](config.get("quantization_config"), own)


def check_in_transformers(folder, weights):
    """What from_pretrained makes of the folder: the weights, or where it multiplies by float16 scales the nearest halves."""
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    quantized = "quantization_config" in json.loads((folder / "config.json").read_text())
    options = {"quantization_config": CompressedTensorsConfig(run_compressed=False)} if quantized else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu", **options)
    for name, weight in weights.items():
        loaded = model.get_submodule(name).weight.detach()
        assert torch.equal(loaded, weight) or torch.equal(loaded, weight.half().float()), f"{folder.name}: {name} differs"


def gguf_linears(path, names, heads, kv_heads):
    from gguf import GGUFReader, dequantize

    short = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down"}
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    for name in names:
        _, _, block, *rest = name.split(".")
        tensor = tensors[f"blk.{block}.{short['.'.join(rest)]}.weight"]
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        count = {"q_proj": heads, "k_proj": kv_heads}.get(rest[-1])
        if count:  # undoes what llama.cpp's converter does to the rows of q and k
            rows, columns = weight.shape
            weight = weight.reshape(count, rows // count // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        yield name, weight


def with_tokenizer(model, copy):
    """llama.cpp's files need one: a byte-level vocabulary of 64 tokens."""
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocabulary = {f"t{i}": i for i in range(64)}
    (copy / "tokenizer.json").write_text(json.dumps({
        "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}))
    return copy


def integer_groups(model, copy):
    """A GPTQ model with the sizes of `model`, which blocks of 256 divide, whose group scales are small integers times one
    float16 a row: what Q4_K holds, and our integer kernels."""
    generator = torch.Generator().manual_seed(17)
    copy.mkdir()
    tensors = load_file(model / "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    digests = {}
    for name in json.loads((model / "golden.json").read_text()):
        rows, outputs = tensors.pop(name + ".B").shape
        inputs, outputs = rows * 16, outputs // 2
        tensors.pop(name + ".s_channel"), tensors.pop(name + ".s_group")
        codes = torch.randint(0, 16, (outputs, inputs), generator=generator)
        unit = (torch.randint(64, 128, (outputs, 1), generator=generator) * 2.0 ** -14).half()
        scales = unit * torch.randint(1, 16, (outputs, inputs // 32), generator=generator).half()
        shifts = 4 * torch.arange(8)
        words = (codes.T.reshape(inputs // 8, 8, outputs) << shifts[:, None]).sum(1)
        tensors[name + ".qweight"] = (words - (words >> 31 << 32)).to(torch.int32)
        tensors[name + ".qzeros"] = torch.full((inputs // 32, outputs // 8), 0x77777777, dtype=torch.int32)
        tensors[name + ".scales"] = scales.T.contiguous()
        digests[name] = digest((codes - 8).float() * scales.float().repeat_interleave(32, 1))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "golden.json").write_text(json.dumps(digests))
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def digest(weight):
    return hashlib.sha256((weight + 0.0).contiguous().numpy().tobytes()).hexdigest()  # + 0.0: no minus zero


def check(tessera, model, target, work):
    expected = json.loads((model / "golden.json").read_text())
    config = json.loads((model / "config.json").read_text())
    out = work / f"{model.name}-{target.replace(':', '-')}"
    if target.startswith("gguf"):
        model = with_tokenizer(model, work / f"{out.name}-source")
    subprocess.run([tessera, "-q", "convert", model, out, "--to", target], check=True, stdout=subprocess.DEVNULL)
    if target.startswith("gguf"):
        found = gguf_linears(out, expected, config["num_attention_heads"], config["num_key_value_heads"])
    else:
        found = linears_of(out, target, expected)
    weights = dict(found)
    for name, weight in weights.items():
        assert digest(weight) == expected[name], f"{out.name}: {name} differs"
    if target in ("compressed-tensors", "hf"):
        check_in_transformers(out, weights)
    print(f"{out.name}: {len(expected)} linears equal", flush=True)


if __name__ == "__main__":
    tessera, golden = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as work:
        for name, targets in CASES.items():
            for target in targets:
                check(tessera, golden / name, target, pathlib.Path(work))
        integers = integer_groups(golden / "qqq-g128", pathlib.Path(work) / "integer-groups")
        for target in ["gguf:q4_k", "gguf", "compressed-tensors", "gptq", "awq", "hf"]:
            check(tessera, integers, target, pathlib.Path(work))
