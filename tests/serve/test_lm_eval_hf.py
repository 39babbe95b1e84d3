"""The float model: log-likelihoods through the server beside those of lm-eval's own `hf` backend (torch, transformers).

Tessera stores keys and values as float16, Transformers as float32. So `hf` runs twice: as it is, for the figure, and with
its keys and values rounded to float16, for the judgement.
"""

import unittest

from lm_eval.models.huggingface import HFLM
from transformers.models.llama import modeling_llama

from lm_tasks import Tasks, local_completions
from served import MODEL, Server

TOLERANCE = 1e-3  # nats an ending: float32 sums in another order


def to_half(tensor):
    return tensor.half().float()


def round_keys_and_values(model):
    rotate = modeling_llama.apply_rotary_pos_emb

    def rotate_and_round(*arguments, **options):
        queries, keys = rotate(*arguments, **options)
        return queries, to_half(keys)
    modeling_llama.apply_rotary_pos_emb = rotate_and_round
    for layer in model.model.layers:
        layer.self_attn.v_proj.register_forward_hook(lambda _module, _inputs, values: to_half(values))


def largest_difference(ours, theirs):
    return max(abs(float(a) - float(b)) for x, y in zip(ours, theirs) for (a, _), (b, _) in zip(x, y))


def greedy_flags(answers):
    return [[str(greedy) for _, greedy in choices] for choices in answers]


class AsTransformers(unittest.TestCase):
    def test_every_ending_of_multiple_choice(self):
        tasks = Tasks(40)
        # For a LLaMA the `hf` backend puts a BOS before what it scores.
        with Server("-q", "--prepend-bos-to-ids") as server:
            ours = tasks.evaluate("choice", "local-completions", local_completions(
                server.url, num_concurrent=16, batch_size=8))
        theirs = HFLM(pretrained=MODEL, dtype="float32", device="cpu", batch_size=8)
        as_it_is = tasks.evaluate("choice", theirs, {})
        round_keys_and_values(theirs.model)
        rounded = tasks.evaluate("choice", theirs, {})
        tasks.close()
        print(f"{len(ours)} items of 4 endings: largest difference {largest_difference(ours, as_it_is):.2e} nats, "
              f"{largest_difference(ours, rounded):.2e} with keys and values as float16")
        self.assertEqual(greedy_flags(ours), greedy_flags(as_it_is))
        self.assertLess(largest_difference(ours, rounded), TOLERANCE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
