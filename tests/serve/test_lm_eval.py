"""lm-evaluation-harness against the server: multiple choice, whole texts, generation, with the server's own tokenizer.

The model must be a quantized one: its log-likelihoods are exactly those of `tessera perplexity`, at any load.
"""

import json
import pathlib
import subprocess
import unittest

from lm_tasks import Tasks, local_completions

from served import MODEL, PROGRAM, Server

JUDGED = 12  # items whose log-likelihoods `tessera perplexity` computes, one process for each text
# Sums of the same doubles in another order. One bit of a logit would change them by 1e-8 or more.
ROUNDING = 1e-11


class LmEval(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tasks = Tasks(60)
        cls.folder = pathlib.Path(cls.tasks.folder.name)
        (cls.folder / "plain.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        cls.server = Server("-q", "--chat-template", str(cls.folder / "plain.jinja"))

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0
        cls.tasks.close()

    def tokens(self, text, special=False):
        return self.server.post("/tokenize", {"prompt": text, "add_special_tokens": special})[2]["tokens"]

    def evaluator_sum(self, text):
        """The log-likelihood of a text behind a BOS, as `tessera perplexity` computes it."""
        path, count = self.folder / "text.txt", len(self.tokens(text, special=True))
        path.write_text(text)
        answer = subprocess.run([PROGRAM, "--threads", "2", "--json", "perplexity", MODEL, "--text", path, "--window",
                                 str(count)], capture_output=True, text=True, check=True)
        return -json.loads(answer.stdout)[0]["mean_nll"] * (count - 1)

    def alone(self, context, ending):
        """What the server says of one ending by itself, and whether it is what greedy generation would write."""
        whole, start = self.tokens(context + " " + ending), len(self.tokens(context))
        scores = self.server.complete(prompt=whole, max_tokens=1, temperature=0, logprobs=1,
                                      echo=True)["choices"][0]["logprobs"]
        own, top = scores["token_logprobs"][start:-1], scores["top_logprobs"][start:-1]
        return sum(own), all(o == max(t.values()) for o, t in zip(own, top))

    def test_multiple_choice(self):
        one, many = (self.tasks.evaluate("choice", "local-completions", local_completions(
            self.server.url, num_concurrent=n, batch_size=b)) for n, b in ((1, 1), (16, 8)))
        self.assertEqual(one, many)
        for item, answers in zip(self.tasks.items, one):
            for ending, (logprob, greedy) in zip(item["endings"], answers):
                expected = self.alone(item["context"], ending)
                self.assertEqual((float(logprob), str(greedy)), (expected[0], str(expected[1])))

    def test_multiple_choice_as_the_evaluator(self):
        with Server("-q", "--prepend-bos-to-ids") as server:
            answers = self.tasks.evaluate("choice", "local-completions", local_completions(
                server.url, num_concurrent=16, batch_size=8))
        for item, choices in zip(self.tasks.items[:JUDGED], answers):
            context = self.evaluator_sum(item["context"])
            for ending, (logprob, _) in zip(item["endings"], choices):
                expected = self.evaluator_sum(item["context"] + " " + ending) - context
                self.assertAlmostEqual(float(logprob), expected, delta=ROUNDING)

    def test_whole_texts_as_the_evaluator(self):
        answers = self.tasks.evaluate("rolling", "local-completions", local_completions(self.server.url, num_concurrent=16))
        for item, answer in zip(self.tasks.items[:JUDGED], answers):
            expected = self.evaluator_sum(f"{item['context']} {item['endings'][0]}")
            self.assertAlmostEqual(float(answer[0]), expected, delta=ROUNDING)

    def test_generation_by_both_routes(self):
        arguments = local_completions(self.server.url, num_concurrent=16)
        texts = self.tasks.evaluate("generate", "local-completions", arguments)
        arguments["base_url"] = self.server.url + "/v1/chat/completions"
        self.assertEqual(texts, self.tasks.evaluate("generate", "local-chat-completions", arguments, apply_chat_template=True))
        for item, text in zip(self.tasks.items, texts):
            alone = self.server.complete(prompt=self.tokens(item["context"]), max_tokens=12, temperature=0, stop=["\n\n"])
            self.assertEqual(text[0], alone["choices"][0]["text"])

    def test_the_gguf_model_type(self):
        answers = self.tasks.evaluate("choice", "gguf", {"base_url": self.server.url}, limit=JUDGED)
        self.assertEqual(len(answers), JUDGED)
        for item, choices in zip(self.tasks.items, answers):
            for ending, (logprob, _) in zip(item["endings"], choices):
                self.assertEqual(float(logprob), self.alone(item["context"], ending)[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
