"""The card of Spider; size and sha256 of its databases stand in `spider_files.json`."""

from __future__ import annotations

import json
from pathlib import Path

from semtube.tasks.task import Card, DataFile

_GITHUB = "https://raw.githubusercontent.com"
_ROWS = f"{_GITHUB}/galilai-group/llm-jepa/6d7d0d1/datasets"
_TABLES = (
    f"{_GITHUB}/taoyds/spider/7036cf422b1da08a907acbdc062e598bb0761bf7"
    "/evaluation_examples/examples/tables.json"
)


def _databases() -> list[DataFile]:
    listed = json.loads(Path(__file__).with_name("spider_files.json").read_text("utf-8"))
    return [
        DataFile(f"spider/database/{name}.sqlite", sha256, num_bytes, url=None)
        for name, (sha256, num_bytes) in listed.items()
    ]


SPIDER = Card(
    name="spider",
    title="Spider: SQL queries of 160 databases from English questions",
    source=(
        "Yu et al. 2018, arXiv 1809.08887: its training and development rows, merged and split "
        "anew by galilai-group/llm-jepa; schemas from taoyds/spider; databases with the rows of "
        "LeLuven/MachineSpider fec4cdd put into the English schemas"
    ),
    licence="CC BY-SA 4.0",
    metric="execution accuracy on databases that training has not seen",
    files=(
        DataFile(
            "spider/spider_train.jsonl",
            "84e4b5f717100871e61ae38589e8f3d44dafab33b69c2d3b8e5ee38224070ba4",
            2_377_836,
            f"{_ROWS}/spider_train.jsonl",
        ),
        DataFile(
            "spider/spider_test.jsonl",
            "9462b996c4859bdd27836a46489f741a48f0e8100da1534542d7a44dbab78fe7",
            527_336,
            f"{_ROWS}/spider_test.jsonl",
        ),
        DataFile(
            "spider/tables.json",
            "61bb20aa401f03164e2d7f3b16509b7b5f79cc9c943ca7bd159046df1159e2ed",
            810_971,
            _TABLES,
        ),
        *_databases(),
    ),
    splits={"train": 6_587, "test": 1_447, "train-unseen": 6_387, "test-unseen": 1_647},
    leaks=(
        "All 159 databases of test are in train; of its 1,447 rows, 1,041 have an SQL text that "
        "occurs in train (1,040 with the same database), 14 a question, and 2 are rows of train.",
        "train-unseen and test-unseen share no database; of 1,647 test rows, 16 have an SQL text "
        "that occurs in train, 8 a question.",
        "The databases are stand-ins, many of them nearly empty: of the 1,446 right queries of "
        "test that run, 504 return no row, and SELECT 1 WHERE 0 is right for 287. They exercise "
        "execution accuracy; Spider numbers for publication need the original databases.",
        "One right query of test and two of train cannot be run; such rows are not judged.",
    ),
)
