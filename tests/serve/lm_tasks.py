"""Tasks of our own on disk for lm-evaluation-harness, which must not look elsewhere for any."""

import json
import os
import pathlib
import random
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="EMPTY", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")

import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

HEAD = "task: tessera_NAME\ndataset_path: json\ndataset_kwargs: {data_files: {test: DATA}}\ntest_split: test\n"
TASKS = {
    "choice": """
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: "{{endings}}"
doc_to_target: "{{label}}"
metric_list: [{metric: acc}]
""",
    "generate": """
output_type: generate_until
doc_to_text: "{{context}}"
doc_to_target: "{{endings[0]}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
""",
    "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{context}} {{endings[0]}}"
metric_list: [{metric: word_perplexity}]
""",
}


class Tasks:
    """A folder with the items and the tasks: multiple choice, generation, whole texts."""

    def __init__(self, count):
        self.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.folder.name)
        os.environ["HF_HOME"] = str(folder / "hub")
        self.items = make_items(count)
        data = folder / "items.json"
        data.write_text("".join(json.dumps(item) + "\n" for item in self.items))
        for name, text in TASKS.items():
            (folder / f"{name}.yaml").write_text((HEAD + text).replace("NAME", name).replace("DATA", str(data)))
        self.manager = TaskManager(include_path=str(folder), include_defaults=False)

    def evaluate(self, task, model, model_args, **options):
        """The answers of a model to a task, item by item."""
        run = lm_eval.simple_evaluate(model=model, model_args=model_args, tasks=["tessera_" + task], log_samples=True,
                                      task_manager=self.manager, bootstrap_iters=0, **options)
        samples = {sample["doc_id"]: sample["filtered_resps"] for sample in run["samples"]["tessera_" + task]}
        return [samples[i] for i in range(options.get("limit", len(self.items)))]

    def close(self):
        self.folder.cleanup()


def make_items(count):
    rng = random.Random(3)
    subjects = ["The history of the city", "It was a cold morning when", "The old king", "In the market",
                "She looked at the river and", "Caf\u00e9 prices \u2014 5 \u20ac \u2014"]
    ends = ["begins with a river.", "nobody came.", "was built in stone", "he said that he would go home.",
            "blue sevens walk", "of the of the of"]
    return [{"context": f"{rng.choice(subjects)} {i}", "endings": rng.sample(ends, 4), "label": rng.randrange(4)}
            for i in range(count)]


def local_completions(url, **arguments):
    """The model arguments that docs/serving.md names."""
    return {"model": "default", "base_url": url + "/v1/completions", "max_length": 512, "tokenizer_backend": "remote",
            **arguments}
