#!/usr/bin/env python3
"""PyTorch beside `tessera bench model`: a LLaMA of random FP16 weights with a static cache, its decode step captured as a
CUDA graph, once as written and once through torch.compile. peer_torch.py CONFIG.json [BATCH...]  prints ms a step."""
import json
import sys
import time

import torch
import torch.nn.functional as F

CONTEXT, PROMPT = 512, 2048


class Llama(torch.nn.Module):
    def __init__(self, config, batch, positions):
        super().__init__()
        c = config
        self.heads, self.layers = c["num_attention_heads"], c["num_hidden_layers"]
        self.kv_heads = c.get("num_key_value_heads", self.heads)
        self.dim = c.get("head_dim", c["hidden_size"] // self.heads)
        self.ffn, h = c["intermediate_size"], c["hidden_size"]
        self.qkv_split = [self.heads * self.dim, self.kv_heads * self.dim, self.kv_heads * self.dim]

        def weight(*shape):
            return torch.nn.Parameter(torch.randn(*shape, device="cuda", dtype=torch.float16) * 0.02, requires_grad=False)

        self.embed, self.head = weight(c["vocab_size"], h), weight(c["vocab_size"], h)
        self.qkv = torch.nn.ParameterList([weight(sum(self.qkv_split), h) for _ in range(self.layers)])
        self.o = torch.nn.ParameterList([weight(h, self.heads * self.dim) for _ in range(self.layers)])
        self.up = torch.nn.ParameterList([weight(2 * self.ffn, h) for _ in range(self.layers)])
        self.down = torch.nn.ParameterList([weight(h, self.ffn) for _ in range(self.layers)])
        self.gain = weight(2 * self.layers + 1, h)
        cache = (batch, self.kv_heads, positions, self.dim)
        self.keys, self.values = ([torch.zeros(cache, device="cuda", dtype=torch.float16) for _ in range(self.layers)]
                                  for _ in range(2))
        angles = torch.outer(torch.arange(positions, device="cuda").float(),
                             c.get("rope_theta", 1e4) ** (-torch.arange(0, self.dim, 2, device="cuda") / self.dim))
        self.cos, self.sin = (torch.cat([f, f], -1).half() for f in (angles.cos(), angles.sin()))

    def rotate(self, x, at):
        a, b = x.chunk(2, -1)
        return x * self.cos[at] + torch.cat([-b, a], -1) * self.sin[at]

    def forward(self, ids, at):
        """Logits [batch, vocabulary] behind the last of ids [batch, tokens], which stand at positions at [tokens]."""
        batch, tokens = ids.shape
        x = F.embedding(ids, self.embed)
        for i in range(self.layers):
            y = F.rms_norm(x, x.shape[-1:], self.gain[2 * i])
            q, k, v = (z.view(batch, tokens, -1, self.dim).transpose(1, 2)
                       for z in F.linear(y, self.qkv[i]).split(self.qkv_split, -1))
            q, k = self.rotate(q, at), self.rotate(k, at)
            self.keys[i].index_copy_(2, at, k)
            self.values[i].index_copy_(2, at, v)
            end = tokens if tokens > 1 else CONTEXT + 1
            y = F.scaled_dot_product_attention(q, self.keys[i][:, :, :end], self.values[i][:, :, :end],
                                               is_causal=tokens > 1, enable_gqa=self.kv_heads != self.heads)
            x = x + F.linear(y.transpose(1, 2).reshape(batch, tokens, -1), self.o[i])
            gate, up = F.linear(F.rms_norm(x, x.shape[-1:], self.gain[2 * i + 1]), self.up[i]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, self.down[i])
        return F.linear(F.rms_norm(x[:, -1], x.shape[-1:], self.gain[-1]), self.head)


def median_ms(body, repeats=20):
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        body()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def graph_of(step):
    """A CUDA graph of step(), warmed up on a stream of its own."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    with torch.inference_mode():
        for batch in [int(b) for b in sys.argv[2:]] or [1, 16, 64]:
            model = Llama(config, batch, PROMPT if batch == 1 else CONTEXT + 1)
            ids = torch.zeros(batch, 1, device="cuda", dtype=torch.long)
            at = torch.tensor([CONTEXT], device="cuda")
            line = f"decode, batch {batch}, context {CONTEXT}: {median_ms(graph_of(lambda: model(ids, at)).replay):.2f} ms"
            compiled = torch.compile(model, dynamic=False)
            line += f", compiled {median_ms(graph_of(lambda: compiled(ids, at)).replay):.2f} ms"
            print(line, flush=True)
            if batch == 1:
                prompt, places = torch.zeros(1, PROMPT, device="cuda", dtype=torch.long), torch.arange(PROMPT, device="cuda")
                model(prompt, places)
                print(f"prefill 1 x {PROMPT}: {median_ms(lambda: model(prompt, places), 5):.1f} ms", flush=True)
            del model, compiled
            torch._dynamo.reset()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
