"""`tessera eval` beside lm-evaluation-harness with its own definitions of the tasks, on the same documents: every log-likelihood, every
metric with its error.

    TESSERA=... TESSERA_MODEL=... python3 test_eval.py [hf]      hf: lm-eval runs the model by Transformers, not by the server
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="EMPTY", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")

import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

import task_data  # noqa: E402
from lm_tasks import local_completions  # noqa: E402
from served import MODEL, PROGRAM, Server  # noqa: E402

USES_HF = "hf" in sys.argv[1:]
TOLERANCE = 1e-3  # nats a choice: float32 sums in another order
DEFINITIONS = pathlib.Path(lm_eval.__file__).parent / "tasks"
TASKS = {"piqa": "piqa/piqa.yaml", "arc_easy": "arc/arc_easy.yaml", "arc_challenge": "arc/arc_challenge.yaml",
         "boolq": "super_glue/boolq/default.yaml", "hellaswag": "hellaswag/hellaswag.yaml",
         "winogrande": "winogrande/default.yaml"}
SUBJECTS = ["astronomy", "world_religions"]


def task_yaml(name, definition, files):
    """The task as lm-eval defines it, on local files."""
    kind = pathlib.Path(next(iter(files.values()))[0]).suffix.removeprefix(".").replace("jsonl", "json")
    unused = "".join(f"{name}_split: null\n" for split, name in {"train": "training", "validation": "validation", "test": "test"}.items()
                     if split not in files)
    return (f"include: {DEFINITIONS / definition}\ntask: {name}\ndataset_path: {kind}\ndataset_name: null\n"
            f"dataset_kwargs: {{data_files: {json.dumps(files)}}}\n{unused}")


def write_tasks(folder, data):
    for name, definition in TASKS.items():
        paths = [path for path in task_data.FILES if path.split("/")[0] == name or (name, path.split("/")[0]) == ("arc_challenge", "ai2_arc")]
        split = "test" if name.startswith("arc") else "validation"
        (folder / f"{name}.yaml").write_text(task_yaml("judge_" + name, definition, {split: [str(data / path) for path in paths]}))
    for subject in SUBJECTS:
        files = {}
        for split in ("test", "dev"):
            rows = task_data.read(data / f"mmlu/all/{split}-00000-of-00001.parquet")
            files[split] = [str(data / f"{subject}-{split}.json")]
            pathlib.Path(files[split][0]).write_text("".join(json.dumps(row) + "\n" for row in rows if row["subject"] == subject))
        (folder / f"{subject}.yaml").write_text(task_yaml("judge_" + subject, f"mmlu/default/mmlu_{subject}.yaml", files))
    (folder / "mmlu.yaml").write_text("group: judge_mmlu\ntask: [judge_astronomy, judge_world_religions]\n"
                                      "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n")


class AsTheHarness(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        os.environ["HF_HOME"] = str(cls.folder / "hub")
        task_data.write(cls.folder / "data")
        (cls.folder / "tasks").mkdir()
        write_tasks(cls.folder / "tasks", cls.folder / "data")
        cls.manager = TaskManager(include_path=str(cls.folder / "tasks"), include_defaults=False)
        if USES_HF:
            from lm_eval.models.huggingface import HFLM
            cls.model, cls.arguments = HFLM(pretrained=MODEL, dtype="float32", device="cpu", batch_size=8), {}
        else:
            cls.server = Server("-q", "--prepend-bos-to-ids")
            cls.model, cls.arguments = "local-completions", local_completions(cls.server.url, num_concurrent=8, batch_size=8)

    @classmethod
    def tearDownClass(cls):
        if not USES_HF:
            cls.server.stop()
        cls.temporary.cleanup()

    def of_harness(self, task, shots):
        return lm_eval.simple_evaluate(model=self.model, model_args=self.arguments, tasks=["judge_" + task], num_fewshot=shots,
                                       log_samples=True, task_manager=self.manager, bootstrap_iters=100)

    def of_tessera(self, task, shots):
        answer = subprocess.run([PROGRAM, "-q", "--json", "eval", MODEL, "--tasks", task, "--data", self.folder / "data", "--documents",
                                 "--fewshot", str(shots)] + ["--kv-bits", "32"] * USES_HF, capture_output=True, text=True, check=True)
        return json.loads(answer.stdout)[0]

    def judge(self, ours, theirs, task, metric):
        for value, name in ((ours[metric]["value"], metric), (ours[metric]["standard_error"], metric + "_stderr")):
            self.assertAlmostEqual(value, theirs["results"]["judge_" + task][name + ",none"], delta=1e-12, msg=name)

    def largest_difference(self, ours, theirs, order):
        """Of all log-likelihoods; `order` has the lm-eval task of each document."""
        samples = {name: iter(sorted(of_task, key=lambda sample: sample["doc_id"])) for name, of_task in theirs["samples"].items()}
        pairs = [(a, float(b[0])) for name, mine in zip(order, ours["log_likelihoods"])
                 for a, b in zip(mine, next(samples[name])["filtered_resps"], strict=True)]
        self.assertEqual([next(rest, None) for rest in samples.values()], [None] * len(samples))
        return max(abs(a - b) for a, b in pairs)

    def test_every_task(self):
        for task in TASKS:
            with self.subTest(task=task):
                ours, theirs = self.of_tessera(task, 0), self.of_harness(task, 0)
                difference = self.largest_difference(ours, theirs, ["judge_" + task] * ours["documents"])
                print(f"{task}: {ours['documents']} documents, largest difference {difference:.1e} nats")
                self.assertLess(difference, TOLERANCE)
                for metric in ("acc", "acc_norm"):
                    if metric in ours:
                        self.judge(ours, theirs, task, metric)

    def test_mmlu_with_and_without_examples(self):
        subjects = [row["subject"] for row in task_data.read(self.folder / "data/mmlu/all/test-00000-of-00001.parquet")]
        for shots in (0, 5):
            with self.subTest(shots=shots):
                ours, theirs = self.of_tessera("mmlu", shots), self.of_harness("mmlu", shots)
                difference = self.largest_difference(ours, theirs, ["judge_" + subject for subject in subjects])
                print(f"mmlu, {shots} examples: largest difference {difference:.1e} nats")
                self.assertLess(difference, TOLERANCE)
                self.judge(ours, theirs, "mmlu", "acc")
                for subject in SUBJECTS:
                    self.judge({"acc": ours["acc"]["groups"][subject]}, theirs, subject, "acc")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
