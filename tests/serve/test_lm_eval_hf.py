"""The float model: log-likelihoods through the server beside those of lm-eval's own `hf` backend (torch, transformers).

Keys and values are kept as float32, as Transformers keeps them; the default, float16, is measured for its figure.
"""

import unittest

from lm_eval.models.huggingface import HFLM

from lm_tasks import Tasks, local_completions
from served import MODEL, Server

TOLERANCE = 1e-3  # nats an ending: float32 sums in another order


def largest_difference(ours, theirs):
    return max(abs(float(a) - float(b)) for x, y in zip(ours, theirs) for (a, _), (b, _) in zip(x, y))


def greedy_flags(answers):
    return [[str(greedy) for _, greedy in choices] for choices in answers]


def of_server(tasks, kv_bits):
    # For a LLaMA the `hf` backend puts a BOS before what it scores.
    with Server("-q", "--prepend-bos-to-ids", "--kv-bits", str(kv_bits)) as server:
        return tasks.evaluate("choice", "local-completions", local_completions(server.url, num_concurrent=16, batch_size=8))


class AsTransformers(unittest.TestCase):
    def test_every_ending_of_multiple_choice(self):
        tasks = Tasks(40)
        exact, by_default = of_server(tasks, 32), of_server(tasks, 16)
        theirs = tasks.evaluate("choice", HFLM(pretrained=MODEL, dtype="float32", device="cpu", batch_size=8), {})
        tasks.close()
        print(f"{len(theirs)} items of 4 endings: largest difference {largest_difference(exact, theirs):.2e} nats, "
              f"{largest_difference(by_default, theirs):.2e} with keys and values as float16")
        self.assertEqual(greedy_flags(exact), greedy_flags(theirs))
        self.assertLess(largest_difference(exact, theirs), TOLERANCE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
