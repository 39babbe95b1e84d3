#!/usr/bin/env python3
"""Makes the tiny quantized models of the folder foreign/, each written by the library whose format it has.

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 transformers==5.24.0 compressed-tensors==0.20.1 gptqmodel==7.7.0
    venv/bin/python tests/golden/make_foreign_models.py tests/golden/foreign [NAME...]

Every subfolder is a checkpoint with golden.json, the SHA-256 of every quantized linear's dequantized weight in float32
[N, K], and golden.safetensors: `ids` [T] and `logits` [T, vocab_size], which Transformers computes in float32 with these
weights and unquantized activations. The weights are what the library itself unpacks, with its scales widened to float32
first: products of codes and scales are then exact. Weights are random; the same versions give the same files.
"""
import hashlib
import json
import pathlib
import shutil
import sys
import types

import torch
import transformers
from safetensors.torch import save_file

VOCAB, TOKENS = 64, 24


def float_model(seed, **sizes):
    """A random LLaMA in float16, its weights far from a usual initialization, so that a wrong code shows."""
    generator = torch.Generator().manual_seed(seed)
    config = transformers.LlamaConfig(**{
        "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
        "attn_implementation": "eager", "dtype": torch.float16} | sizes)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data.copy_(1 + 0.3 * noise)
        else:
            parameter.data.copy_(noise if "embed" in name else 0.2 * noise)
    return model.to(torch.float16), generator


def block_linears(model):
    return {name: module for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name != "lm_head"}


def input_ranges(model):
    """The largest magnitude of every linear's input, on all ids."""
    largest = {}
    for name, linear in block_linears(model).items():
        linear.register_forward_pre_hook(
            lambda _, inputs, name=name: largest.__setitem__(name, inputs[0].abs().max().item()))
    with torch.no_grad():
        model.float()(torch.arange(VOCAB).unsqueeze(0))
    model.half()
    return largest


def save_golden(folder, model, weights, generator):
    """`weights`: float32 [N, K] by the linear's name."""
    reference = transformers.AutoModelForCausalLM.from_config(model.config).float().eval()
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    reference.load_state_dict(state | {name + ".weight": weight for name, weight in weights.items()}, strict=True)
    ids = torch.randint(VOCAB, (1, TOKENS), generator=generator)
    with torch.no_grad():
        logits = reference(ids).logits[0]
    save_file({"ids": ids[0].to(torch.int32), "logits": logits}, folder / "golden.safetensors")
    digests = {name: hashlib.sha256((weight + 0.0).contiguous().numpy().tobytes()).hexdigest()  # + 0.0: no minus zero
               for name, weight in sorted(weights.items())}
    (folder / "golden.json").write_text(json.dumps(digests, indent=1) + "\n")


def compressed_tensors(folder, seed, weights, activations=None, format=None):
    """Round-to-nearest with the library's own ranges, quantization and packing."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams

    model, generator = float_model(seed)
    scheme = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", **weights}}
    if activations:
        scheme["input_activations"] = {"num_bits": 8, "type": "int", "symmetric": True, **activations}
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"]))
    for linear in block_linears(model).values():
        arguments = linear.quantization_scheme.weights
        weight = linear.weight.data.float()
        if arguments.strategy == "tensor":
            least, largest = weight.min().reshape(1), weight.max().reshape(1)
        else:
            groups = weight.unflatten(1, (-1, arguments.group_size or weight.shape[1]))
            least, largest = groups.amin(-1), groups.amax(-1)
        scale, zero = calculate_qparams(least, largest, arguments)
        linear.weight_scale.data.copy_(scale)
        if not arguments.symmetric:
            linear.weight_zero_point.data.copy_(zero.round())
    plain, _ = float_model(seed)
    if activations and activations["strategy"] == "tensor":
        largest = input_ranges(plain)
        for name, linear in block_linears(model).items():
            linear.input_scale.data.fill_(largest[name] / 127)
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format=format)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)

    dequantized = {}
    for name, linear in block_linears(plain).items():
        module = model.get_submodule(name)
        state = {key: value.float() if key == "weight_scale" else value
                 for key, value in module.state_dict().items()}
        kind = BaseCompressor.get_value_from_registry(format)
        dequantized[name] = kind.decompress(state, module.quantization_scheme)["weight"].float()
    save_golden(folder, plain, dequantized, generator)


def ranges(weight, width, bits, symmetric):
    """Scales (float16) and zero points [N, K / width] of unsigned codes."""
    groups = weight.float().unflatten(1, (-1, width))
    if symmetric:
        scale = groups.abs().amax(-1) / (2 ** (bits - 1) - 1)
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        least = groups.amin(-1).clamp(max=0)
        scale = (groups.amax(-1).clamp(min=0) - least) / (2 ** bits - 1)
        zero = (-least / scale).round().clamp(1, 2 ** bits - 1)
    return scale.half().float(), zero


def packed(folder, seed, section, pack, **sizes):
    """`pack` makes of a linear its tensors and its dequantized weight; `section` goes into config.json."""
    model, generator = float_model(seed, **sizes)
    linears = block_linears(model)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name.removesuffix(".weight") not in linears}
    weights = {}
    for name, linear in linears.items():
        state, weights[name] = pack(linear, generator)
        tensors |= {f"{name}.{key}": value.contiguous() for key, value in state.items()}
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": [type(model).__name__], "quantization_config": section}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_golden(folder, model, weights, generator)


def arguments_of(linear, bits, group_size, symmetric, act_order):
    return {"bits": bits, "group_size": group_size, "sym": symmetric, "desc_act": act_order,
            "in_features": linear.in_features, "out_features": linear.out_features}


def gptq(folder, seed, bits=4, group_size=32, symmetric=True, act_order=False, label="gptq", stored="gptq"):
    """`label` is what config.json says, `stored` the convention of the zero points."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    def pack(linear, generator):
        width = group_size if group_size > 0 else linear.in_features
        groups = torch.arange(linear.in_features) // width
        order = torch.arange(linear.in_features)
        if act_order:  # inputs of a group are scattered
            order = torch.randperm(linear.in_features, generator=generator)
        scale, zero = ranges(linear.weight.data[:, order], width, bits, symmetric)
        groups = groups[torch.argsort(order)]
        module = TorchLinear(**arguments_of(linear, bits, group_size, symmetric, act_order))
        module.pack(linear.float(), scale, zero, groups.to(torch.int32))
        module.post_init()
        module.scales = module.scales.float()
        dequantized = module.dequantize_weight().T.float()
        if stored == "gptq":
            convert_gptq_v2_to_v1_format_module(module, types.SimpleNamespace(bits=bits, pack_dtype=torch.int32))
        return {"qweight": module.qweight, "qzeros": module.qzeros, "scales": module.scales.half(),
                "g_idx": module.g_idx}, dequantized

    packed(folder, seed, {"bits": bits, "group_size": group_size, "desc_act": act_order, "sym": symmetric,
                          "lm_head": False, "quant_method": "gptq", "checkpoint_format": label,
                          "pack_dtype": "int32"}, pack)


def awq(folder, seed, group_size=32):
    from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    def pack(linear, _):
        scale, zero = ranges(linear.weight.data, group_size, 4, False)
        module = AwqTorchLinear(**arguments_of(linear, 4, group_size, False, False), register_buffers=True)
        module.pack(linear.float(), scale, zero)
        tensors = {"qweight": module.qweight, "qzeros": module.qzeros, "scales": module.scales.half()}
        dequantized = dequantize_gemm(module.qweight, module.qzeros, tensors["scales"].float(), 4, group_size).T
        return tensors, dequantized.float()

    packed(folder, seed, {"quant_method": "awq", "bits": 4, "group_size": group_size, "zero_point": True,
                          "version": "gemm", "modules_to_not_convert": None}, pack)


def qqq(folder, seed, group_size, **sizes):
    from gptqmodel.nn_modules.qlinear.qqq import QQQTorchLinear

    def pack(linear, _):
        width = group_size if group_size > 0 else linear.in_features
        scale, _ = ranges(linear.weight.data, width, 4, True)
        rounded = linear.weight.data.float().unflatten(1, (-1, width)) / scale.unsqueeze(-1)
        linear.weight.data = (rounded.round().clamp(-7, 7) * scale.unsqueeze(-1)).flatten(1)
        channel = linear.weight.data.abs().amax(1, keepdim=True) / 127
        module = QQQTorchLinear(**arguments_of(linear, 4, group_size, True, False))
        module.pack(linear, scale, channel if group_size > 0 else None)
        module.post_init()
        weight, scales = module._dequantize_weight_for_torch()
        tensors = {"B": module.B, "s_channel": module.s_channel, "s_group": module.s_group}
        return {key: value for key, value in tensors.items() if value.numel() > 0}, (weight * scales).T

    packed(folder, seed, {"quant_method": "qqq", "bits": 4, "group_size": group_size, "desc_act": False, "sym": True,
                          "checkpoint_format": "qqq"}, pack,
           num_key_value_heads=4, **sizes)


CHANNEL = {"strategy": "channel", "symmetric": True}
GROUPS = {"strategy": "group", "group_size": 32}
TOKEN = {"strategy": "token", "dynamic": True}
PACKED, BYTES = "pack-quantized", "int-quantized"

MODELS = {
    "ct-w4a16-g32": lambda f: compressed_tensors(f, 1, {**GROUPS, "symmetric": True}, format=PACKED),
    "ct-w4a16-g32-zeros": lambda f: compressed_tensors(f, 2, {**GROUPS, "symmetric": False}, format=PACKED),
    "ct-w6a16": lambda f: compressed_tensors(f, 3, {**CHANNEL, "num_bits": 6}, format=PACKED),
    "ct-w4a8": lambda f: compressed_tensors(f, 4, CHANNEL, TOKEN, PACKED),
    "ct-w8a8": lambda f: compressed_tensors(f, 5, {**CHANNEL, "num_bits": 8}, TOKEN, BYTES),
    "ct-w8a8-static": lambda f: compressed_tensors(
        f, 6, {"strategy": "tensor", "symmetric": True, "num_bits": 8}, {"strategy": "tensor", "dynamic": False}, BYTES),
    "gptq-g32": lambda f: gptq(f, 7),
    "gptq-v2-zeros": lambda f: gptq(f, 8, symmetric=False, label="gptq_v2", stored="gptq_v2"),
    "gptq-zeros": lambda f: gptq(f, 9, symmetric=False),
    "gptq-act-order": lambda f: gptq(f, 10, act_order=True),
    "gptq-mislabelled": lambda f: gptq(f, 11, label="gptq", stored="gptq_v2"),
    "gptq-w3": lambda f: gptq(f, 12, bits=3),
    "gptq-w8": lambda f: gptq(f, 13, bits=8, group_size=-1),
    "awq-g32": lambda f: awq(f, 14),
    "qqq": lambda f: qqq(f, 15, -1, hidden_size=128, head_dim=32),
    "qqq-g128": lambda f: qqq(f, 16, 128, hidden_size=256, head_dim=64, intermediate_size=256),
}


if __name__ == "__main__":
    for name in sys.argv[2:] or MODELS:
        folder = pathlib.Path(sys.argv[1]) / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        MODELS[name](folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        print(name, sum(f.stat().st_size for f in folder.iterdir()), "bytes")
