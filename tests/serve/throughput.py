"""Streams that run together, against what `tessera bench model` says the engine alone would take.

    TESSERA=build/release/bin/tessera TESSERA_MODEL=... python3 throughput.py --streams 1,8,32

Of each number of streams the best of some runs is shown: output tokens/s, time to the first token and between tokens, and the
share of the engine's own speed, prompts included; also where answers come whole, since the client that reads the events takes
its time from the same processors. The machine must be idle otherwise.
"""

import argparse
import asyncio
import json
import random
import subprocess
import time

from served import MODEL, PROGRAM, THREADS, Server

VOCABULARY = 4000


async def ask(server, body, gaps, firsts):
    reader, writer = await asyncio.open_connection(server.host, server.port)
    text = json.dumps(body)
    began = last = time.monotonic()
    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    first = True
    while piece := await reader.read(65536):
        if b"data: " in piece:
            now = time.monotonic()
            (firsts if first else gaps).append(now - (began if first else last))
            first, last = False, now
    writer.close()


async def run(server, streams, prompt, tokens, rng, events):
    gaps, firsts = [], []
    bodies = [{"prompt": [rng.randrange(3, VOCABULARY) for _ in range(prompt)], "max_tokens": tokens, "temperature": 0,
               "ignore_eos": True, "stream": events} for _ in range(streams)]
    began = time.monotonic()
    await asyncio.gather(*(ask(server, body, gaps, firsts) for body in bodies))
    return time.monotonic() - began, sorted(firsts), sorted(gaps)


def engine_seconds(streams, prompt, tokens):
    """What the prompts and the steps take by `tessera bench model`, at the middle of the contexts."""
    answer = subprocess.run([PROGRAM, "--threads", THREADS, "--json", "bench", "model", MODEL, "--batch", str(streams), "--prompt",
                             str(prompt), "--context", str(prompt + tokens // 2)], capture_output=True, text=True, check=True)
    speeds = {s["phase"]: s["tokens_per_second"] for s in json.loads(answer.stdout)["models"][0]["speeds"]}
    return streams * (prompt / speeds["prefill"] + tokens / speeds["decode"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rng = random.Random(1)
    milliseconds = lambda values, share: f"{values[int(share * (len(values) - 1))] * 1e3:.1f}"
    print("| streams | tokens/s | first token p50, p99 ms | between tokens p50, p99 ms | of the engine alone | answers whole |\n"
          "|---:|---:|---:|---:|---:|---:|")
    counts = list(map(int, options.streams.split(",")))
    # Before the server starts, which takes what memory a GPU has.
    alone = [min(engine_seconds(streams, options.prompt, options.tokens) for _ in range(options.runs)) for streams in counts]
    with Server("-q") as server:
        for streams, engine in zip(counts, alone):
            best = lambda events: min(asyncio.run(run(server, streams, options.prompt, options.tokens, rng, events))
                                      for _ in range(options.runs))
            seconds, firsts, gaps = best(True)
            print(f"| {streams} | {streams * options.tokens / seconds:.0f} | {milliseconds(firsts, 0.5)}, "
                  f"{milliseconds(firsts, 0.99)} | {milliseconds(gaps, 0.5)}, {milliseconds(gaps, 0.99)} | "
                  f"{engine / seconds * 100:.0f} % | {engine / best(False)[0] * 100:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
