#!/usr/bin/env python3
"""Writes a GGUF file of a LLaMA model with random float16 weights: random_gguf.py config.json OUT.gguf
The shape comes from a Hugging Face config.json. The vocabulary is made up: the file is for timing alone.
Needs the packages gguf and numpy."""
import argparse
import json

import gguf
import numpy as np


def vocabulary(size):
    """Three special tokens and 256 bytes, as SentencePiece vocabularies begin, then made-up words."""
    kind = gguf.TokenType
    tokens = [(b"<unk>", kind.UNKNOWN), (b"<s>", kind.CONTROL), (b"</s>", kind.CONTROL)]
    tokens += [(b"<0x%02X>" % byte, kind.BYTE) for byte in range(256)]
    return tokens + [(b"word%d" % word, kind.NORMAL) for word in range(size - len(tokens))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config.json of a LLaMA model")
    parser.add_argument("out", help="GGUF file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with open(args.config) as file:
        config = json.load(file)
    hidden, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    layers, kv = config["num_hidden_layers"], hidden // heads * kv_heads
    random = np.random.default_rng(args.seed)

    writer = gguf.GGUFWriter(args.out, "llama")
    for add, value in ((writer.add_context_length, config["max_position_embeddings"]),
                       (writer.add_embedding_length, hidden), (writer.add_feed_forward_length, mlp),
                       (writer.add_block_count, layers), (writer.add_head_count, heads),
                       (writer.add_head_count_kv, kv_heads), (writer.add_rope_dimension_count, hidden // heads),
                       (writer.add_rope_freq_base, config["rope_theta"]),
                       (writer.add_layer_norm_rms_eps, config["rms_norm_eps"])):
        add(value)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokens = vocabulary(vocab)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([-float(i) for i in range(vocab)])
    writer.add_token_types([kind for _, kind in tokens])

    block = {"attn_norm": (hidden,), "attn_q": (hidden, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden),
             "attn_output": (hidden, hidden), "ffn_norm": (hidden,), "ffn_gate": (mlp, hidden),
             "ffn_up": (mlp, hidden), "ffn_down": (hidden, mlp)}
    shapes = {"token_embd": (vocab, hidden), "output_norm": (hidden,), "output": (vocab, hidden)}
    for i in range(layers):
        shapes.update({f"blk.{i}.{name}": shape for name, shape in block.items()})
    for name, shape in shapes.items():
        norm = len(shape) == 1
        weight = np.ones(shape, np.float32) if norm else 0.02 * random.standard_normal(shape, np.float32)
        writer.add_tensor(name + ".weight", weight.astype(np.float32 if norm else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
