"""lm-evaluation-harness against the server: multiple choice and generation, with the server's own tokenizer.

Log-likelihoods must be those that the server's program computes for the same ids when it is asked one by one.
"""

import json
import os
import pathlib
import random
import tempfile
import unittest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="EMPTY", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")

import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from served import Server  # noqa: E402

CHOICE_TASK = """
task: tessera_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{context}}"
doc_to_choice: "{{endings}}"
doc_to_target: "{{label}}"
metric_list: [{metric: acc}]
"""
GENERATE_TASK = """
task: tessera_generate
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
output_type: generate_until
test_split: test
doc_to_text: "{{context}}"
doc_to_target: "{{endings[0]}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
"""


def write_items(path, count):
    rng = random.Random(3)
    subjects = ["The history of the city", "It was a cold morning when", "The old king", "In the market",
                "She looked at the river and", "Caf\u00e9 prices \u2014 5 \u20ac \u2014"]
    ends = ["begins with a river.", "nobody came.", "was built in stone", "he said that he would go home.",
            "blue sevens walk", "of the of the of"]
    with open(path, "w") as out:
        for i in range(count):
            out.write(json.dumps({"context": f"{rng.choice(subjects)} {i}", "endings": rng.sample(ends, 4),
                                  "label": rng.randrange(4)}) + "\n")


class LmEval(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(cls.folder.name)
        os.environ["HF_HOME"] = str(folder / "hub")
        write_items(folder / "items.json", 60)
        for name, text in (("choice", CHOICE_TASK), ("generate", GENERATE_TASK)):
            (folder / f"{name}.yaml").write_text(text.replace("DATA", str(folder / "items.json")))
        cls.tasks = TaskManager(include_path=str(folder), include_defaults=False)
        cls.server = Server("-q")
        cls.items = [json.loads(line) for line in (folder / "items.json").read_text().splitlines()]

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0
        cls.folder.cleanup()

    def evaluate(self, task, **arguments):
        model_args = {"model": "default", "base_url": self.server.url + "/v1/completions", "max_length": 512,
                      "tokenizer_backend": "remote", **arguments}
        return lm_eval.simple_evaluate(model="local-completions", model_args=model_args, tasks=[task],
                                       task_manager=self.tasks, log_samples=True, bootstrap_iters=0)

    def loglikelihood(self, context, ending):
        """What the server says of one ending by itself."""
        def encode(text):
            return self.server.post("/tokenize", {"prompt": text, "add_special_tokens": False})[2]["tokens"]
        whole, start = encode(context + " " + ending), len(encode(context))
        scores = self.server.complete(prompt=whole, max_tokens=1, temperature=0, logprobs=1,
                                      echo=True)["choices"][0]["logprobs"]
        own, top = scores["token_logprobs"][start:-1], scores["top_logprobs"][start:-1]
        return sum(own), all(o == max(t.values()) for o, t in zip(own, top))

    def test_multiple_choice(self):
        runs = [self.evaluate("tessera_choice", num_concurrent=n, batch_size=b) for n, b in ((1, 1), (16, 8))]
        answers = [{s["doc_id"]: s["filtered_resps"] for s in run["samples"]["tessera_choice"]} for run in runs]
        self.assertEqual(len(answers[0]), len(self.items))
        for i, item in enumerate(self.items):
            for ending, first, second in zip(item["endings"], answers[0][i], answers[1][i]):
                alone = self.loglikelihood(item["context"], ending)
                for logprob, greedy in (first, second):
                    self.assertAlmostEqual(float(logprob), alone[0], delta=1e-4)
                    self.assertEqual(str(greedy), str(alone[1]))

    def test_generation(self):
        run = self.evaluate("tessera_generate", num_concurrent=4, batch_size=1)
        for sample in run["samples"]["tessera_generate"][:10]:
            alone = self.server.complete(prompt=self.items[sample["doc_id"]]["context"], max_tokens=12, temperature=0,
                                         stop=["\n\n"], add_special_tokens=False)
            self.assertIn(sample["resps"][0][0].strip(), alone["choices"][0]["text"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
