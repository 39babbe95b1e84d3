"""Many streams at once, some of which leave or never read: survivors' texts, pages, files, memory, /health.

    TESSERA=build/release/bin/tessera TESSERA_MODEL=... python3 load.py --requests 5000 --streams 200 --health-ms 50

The model must be a quantized one: texts of a float model depend on the batch. Exits with 1 and says what failed.
"""

import argparse
import asyncio
import json
import random
import time

from served import Server, eventually, events_of


def body_of(rng, longest):
    words = ["city", "river", "old", "market", "the", "and", "house", "in", "morning", "light"]
    prompt = "The " + " ".join(rng.choice(words) for _ in range(rng.randint(4, longest)))
    return {"prompt": prompt, "max_tokens": rng.randint(32, 128), "temperature": rng.choice([0, 0.9]),
            "seed": rng.randrange(1 << 30), "stream": True}


def http(body):
    text = json.dumps(body)
    return (f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
            f"{text}").encode()


def text_of(raw):
    head, _, rest = raw.partition(b"\r\n\r\n")
    if b" 200 " not in head:
        raise ValueError(head.decode(errors="replace")[:200])
    text = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        text, rest = text + rest[:length], rest[length + 2:]
    return "".join(e["choices"][0]["text"] for e in events_of(text.decode()))


async def fetch(server, body, fate, rng):
    """The text of a survivor, None of a client that left."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(http(body))
        await writer.drain()
        if fate == "before":
            return None
        if fate == "deaf":  # it never reads
            await asyncio.sleep(rng.uniform(1, 3))
            return None
        raw, events, leave = b"", 0, rng.randint(1, 20) if fate == "leaves" else None
        while piece := await reader.read(65536):
            raw += piece
            events += piece.count(b"data: ")
            if leave and events >= leave:
                return None
        return text_of(raw)
    finally:
        writer.close()


async def watch_health(server, waits, done):
    while not done.is_set():
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.readline()
        waits.append(time.monotonic() - began)
        writer.close()
        await asyncio.sleep(0.1)


async def run(server, options):
    rng = random.Random(options.seed)
    # Few different bodies, so that each can be compared with the same request alone.
    bodies = [body_of(rng, options.words) for _ in range(options.bodies)]
    expected = [await fetch(server, body, "stays", rng) for body in bodies]
    files, failures, waits, memory = server.open_files(), [], [], []
    gate, done, survivors = asyncio.Semaphore(options.streams), asyncio.Event(), 0

    async def one(i):
        nonlocal survivors
        fate = rng.choices(["stays", "leaves", "before", "deaf"], [60, 30, 5, 5])[0]
        which = rng.randrange(len(bodies))
        async with gate:
            try:
                text = await fetch(server, bodies[which], fate, rng)
            except Exception as error:  # every kind is a failure of the server
                failures.append(f"request {i}: {error!r}")
                return
        if fate == "stays":
            survivors += 1
            if text != expected[which]:
                failures.append(f"request {i}: {text!r} instead of {expected[which]!r}")
        if i % 20 == 0:
            memory.append(server.resident_bytes())

    health = asyncio.create_task(watch_health(server, waits, done))
    began = time.monotonic()
    await asyncio.gather(*(one(i) for i in range(options.requests)))
    seconds = time.monotonic() - began
    done.set()
    await health

    if not eventually(lambda: server.idle() and server.open_files() <= files, 1):
        failures.append(f"after a second {server.metric('kv_pages_used'):.0f} pages are held, {server.open_files()} files "
                        f"open, {files} before")
    waits.sort()
    p99 = waits[int(len(waits) * 0.99)]
    fifth = max(1, len(memory) // 5)
    growth = max(memory[-fifth:]) / max(memory[fifth:2 * fifth] or memory)
    print(f"{options.requests} requests in {seconds:.1f} s, {survivors} survivors, "
          f"{server.metric('generated_tokens_total') / seconds:.0f} tokens/s, /health p99 {p99 * 1e3:.1f} ms, "
          f"memory of the last fifth {growth:.3f} of the second, preemptions {server.metric('preemptions_total'):.0f}")
    if options.health_ms and p99 * 1e3 > options.health_ms:
        failures.append(f"/health p99 {p99 * 1e3:.1f} ms")
    if growth > options.memory_growth:
        failures.append(f"memory grew to {growth:.3f}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--bodies", type=int, default=12)
    parser.add_argument("--words", type=int, default=120, help="of a prompt at most")
    parser.add_argument("--health-ms", type=float, default=0, help="p99 of /health at most; 0: not judged")
    parser.add_argument("--kv-memory", default="6MB", help="small, so that sequences are preempted")
    parser.add_argument("--memory-growth", type=float, default=1.05, help="of the last fifth over the second at most")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # A sanitizer's program is slow; nothing may wait so long that it is refused.
    with Server("-q", "--queue-timeout", "3600", "--kv-memory", options.kv_memory) as server:
        failures = asyncio.run(run(server, options))
        if (status := server.stop()) != 0:
            failures.append(f"exit status {status}: " + "".join(server.log[-60:]))
    for failure in failures[:20]:
        print("FAILED", failure)
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
