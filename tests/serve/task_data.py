"""Documents of our own for the tasks of `tessera eval`, in the files in which the data sets are published.

    python3 task_data.py FOLDER        needs pyarrow
"""

import json
import random
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet

NAMES = ["city", "river", "king", "church", "village", "school", "army", "island", "bridge", "garden"]
FACTS = ["was built in the north", "is known for its old walls", "had a large market", "was lost in the war",
         "lies near the sea", "became famous", "was named after a saint", "has two towers"]


def text(dice):
    return f"The {dice.choice(NAMES)} {dice.choice(FACTS)}"


def piqa(dice):
    return {"goal": text(dice), "sol1": text(dice), "sol2": text(dice) + ", too", "label": dice.randrange(2)}


def arc(dice):
    count = dice.choice([3, 4, 4])
    labels = dice.choice(["ABCD", "1234"])[:count]
    return {"id": str(dice.random()), "question": text(dice) + ". Why?",
            "choices": {"text": [text(dice) for _ in range(count)], "label": list(labels)}, "answerKey": dice.choice(labels)}


def boolq(dice):
    return {"question": "is it the " + dice.choice(NAMES), "passage": ". ".join(text(dice) for _ in range(20)) + ".",
            "idx": dice.randrange(100), "label": dice.randrange(2)}


def hellaswag(dice):
    return {"ind": dice.randrange(100), "activity_label": "Going to the " + dice.choice(NAMES),
            "ctx_a": "[header] " + text(dice) + " [title] " + text(dice) + ".", "ctx_b": "the " + dice.choice(NAMES).upper(),
            "endings": [dice.choice(["", "[step] "]) + text(dice).lower() + dice.choice([".", "  [substeps] at last."])
                        for _ in range(4)], "label": str(dice.randrange(4))}


def winogrande(dice):
    first, second = dice.sample(NAMES, 2)
    return {"sentence": f"The {first} and the {second} were old, but the _ {dice.choice(FACTS)}.", "option1": first,
            "option2": second, "answer": dice.choice("12")}


def mmlu(dice):
    return {"question": " " + text(dice) + "?", "subject": dice.choice(["world_religions", "astronomy"]),
            "choices": [text(dice) for _ in range(4)], "answer": dice.randrange(4)}


FILES = {
    "piqa/plain_text/validation-00000-of-00001.parquet": piqa,
    "arc_easy/test-00000-of-00001.parquet": arc,
    "ai2_arc/ARC-Challenge/test-00000-of-00001.parquet": arc,
    "boolq/val.jsonl": boolq,
    "hellaswag/data/validation-00000-of-00002.parquet": hellaswag,
    "hellaswag/data/validation-00001-of-00002.parquet": hellaswag,
    "winogrande/winogrande_xl/validation-00000-of-00001.parquet": winogrande,
    "mmlu/all/test-00000-of-00001.parquet": mmlu,
    "mmlu/all/dev-00000-of-00001.parquet": mmlu,
}


def write(folder, count=25):
    """Every file with `count` documents."""
    for seed, (name, make) in enumerate(FILES.items()):
        dice = random.Random(seed)
        documents = [make(dice) for _ in range(count)]
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(documents), path)
        else:
            path.write_text("".join(json.dumps(document) + "\n" for document in documents))


def read(path):
    return pyarrow.parquet.read_table(path).to_pylist()


if __name__ == "__main__":
    write(sys.argv[1])
