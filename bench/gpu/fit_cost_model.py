#!/usr/bin/env python3
"""Fits the constants of kernels/cuda/cost_model.cc to timings of `gemm_bench tune`:
fit_cost_model.py LAYOUT=FILE ... [--seconds 60]. Minimises the loss by the model's choice against the best measured
configuration, and the error of its estimates, by random search."""
import argparse
import json
import math
import random
import time

BLOCK_BYTES = {"int4": 4096, "g128": 4224, "g64": 4352, "g32": 4608, "int8": 8192}
NAMES = ["kLaunch", "kDeviceBandwidth", "kSmBandwidth", "kSmRate", "kExchangeRate", "kTile", "kStage", "kSend"]
START = [3.0, 4.2e6, 55e3, 6.5e6, 60e3, 1.0, 0.1, 1.0]
SMS, CLUSTER_SYNC = 132, 0.5


def ceil_div(a, b):
    return -(-a // b)


def estimate(constants, layout, problem, config):
    """The formula of estimate_microseconds()."""
    launch, device_rate, sm_rate_bytes, sm_rate, exchange_rate, tile, stage, send = constants
    (k, n, m), (rows, tokens, split) = problem, config
    blocks_per_sm = 2 if rows == 128 and tokens <= 64 else 1
    tiles = ceil_div(m, tokens) * ceil_div(n, rows)
    rounds = ceil_div(tiles, SMS * blocks_per_sm // split)
    sharing = min(max(tiles * split / SMS, 1.0), blocks_per_sm)
    stages = ceil_div(k, 128) / split
    weight_bytes = BLOCK_BYTES[layout] / 8192
    inbound = stages * 128 * (rows * weight_bytes + tokens)
    products = stages * 128 * rows * tokens
    exchange = 4 * rows * tokens / exchange_rate
    finish = tile + exchange / split + (send * (split - 1) / split * exchange + CLUSTER_SYNC if split > 1 else 0)
    block = stages * stage + max(inbound / sm_rate_bytes, products / sm_rate) * sharing + finish
    return launch + math.hypot(n * k * weight_bytes / device_rate, rounds * block)


def load(arguments):
    timings = {}
    for argument in arguments:
        layout, path = argument.split("=", 1)
        for line in open(path):
            row = json.loads(line)
            problem = timings.setdefault((layout, (row["k"], row["n"], row["m"])), [])
            problem.append(((row["rows"], row["tokens"], row["split"]), row["us"]))
    return timings


def judge(constants, timings):
    """(loss to minimise, mean log regret, worst ratio)"""
    regret = error = 0.0
    worst = 1.0
    for (layout, problem), configs in timings.items():
        estimates = [(estimate(constants, layout, problem, config), us) for config, us in configs]
        best = min(us for _, us in estimates)
        ratio = min(estimates, key=lambda e: e[0])[1] / best
        near = [abs(math.log(guess / us)) for guess, us in estimates if us < 1.5 * best]
        regret += math.log(ratio)
        error += sum(near) / len(near)
        worst = max(worst, ratio)
    return (3 * regret + 0.3 * error) / len(timings), regret / len(timings), worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("timings", nargs="+")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    timings = load(options.timings)
    random.seed(1)
    constants, best = START, judge(START, timings)
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        trial = [c * math.exp(random.gauss(0, 0.15)) if random.random() < 0.4 else c for c in constants]
        score = judge(trial, timings)
        if score < best:
            constants, best = trial, score
    for name, value in zip(NAMES, constants):
        print(f"{name} = {value:.5g}")
    print(f"choices are {math.expm1(best[1]):.1%} slower than the best on average, {best[2] - 1:.0%} at worst")


if __name__ == "__main__":
    main()
