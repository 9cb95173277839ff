"""The cards of the tasks: sources at fixed commits, sizes, checksums, leaks as we measured them.

A test measures every figure again. Spider's card stands with its task.
"""

from __future__ import annotations

from semtube.tasks.task import Card, DataFile

_GITHUB = "https://raw.githubusercontent.com"
#: The authors' files; GitHub takes a commit by the beginning of its hash, all that is known of it.
_AUTHORS = f"{_GITHUB}/galilai-group/llm-jepa/6d7d0d1/datasets"
_AUTHORS_FORM = "in the form of galilai-group/llm-jepa 6d7d0d1 (Apache-2.0)"
_NEAR = " (Jaccard similarity of character 5-grams at least 0.8)"


def _authors_file(folder: str, name: str, num_bytes: int, sha256: str) -> DataFile:
    return DataFile(f"{folder}/{name}", sha256, num_bytes, f"{_AUTHORS}/{name}")


NL_RX_SYNTH = Card(
    name="nl-rx-synth",
    title="NL-RX-SYNTH: regular expressions from descriptions made by a grammar",
    source=f"Locascio et al. 2016, arXiv 1608.03000, {_AUTHORS_FORM}",
    licence="MIT",
    metric="DFA equality: both regexes accept the same strings",
    files=(
        _authors_file(
            "nl_rx",
            "synth_train.jsonl",
            2_089_621,
            "ca959f108fb5a9c363910bca46cd9de69ead3bac016ed2564c74be39ba634e46",
        ),
        _authors_file(
            "nl_rx",
            "synth_test.jsonl",
            521_305,
            "acfce67c9284bb97dc0b89ad9412b00f6464faf2dfbd2581dd4930140716e45d",
        ),
    ),
    splits={"train": 8000, "test": 2000},
    leaks=(
        "89 of 8,000 train rows repeat an earlier one",
        "9 of 2,000 test rows repeat an earlier one",
        "2,000 test rows: 39 stand in train too; 39 share a question and 111 an answer with it",
        f"2,000 test rows: 591 with a near-duplicate in train{_NEAR}",
        "25 test answers end in .*.* (102 in train), 885 others in .* (3,566): rates by "
        "ending have wide intervals",
    ),
)

NL_RX_TURK = Card(
    name="nl-rx-turk",
    title="NL-RX-TURK: the regular expressions of NL-RX-SYNTH described by people",
    source=f"Locascio et al. 2016, arXiv 1608.03000, {_AUTHORS_FORM}",
    licence="MIT",
    metric="DFA equality: both regexes accept the same strings",
    files=(
        _authors_file(
            "nl_rx",
            "turk_train.jsonl",
            2_039_851,
            "61d5d6df65a7a899c6f45948a37729bb84b84b4943750f8fa38c1042250ec664",
        ),
        _authors_file(
            "nl_rx",
            "turk_test.jsonl",
            509_811,
            "5cab7cfadd071a15e0956cc32e1d4d1bbe99750868b8f064d55cc569f5aefbd3",
        ),
    ),
    splits={"train": 8000, "test": 2000},
    leaks=(
        "row i has the same regex as row i of NL-RX-SYNTH",
        "1 of 8,000 train rows repeat an earlier one",
        "2,000 test rows: 0 stand in train too; 68 share a question and 111 an answer with it",
        "68 test questions stand in train with another regex: who remembers train is wrong there",
        f"2,000 test rows: 40 with a near-duplicate in train{_NEAR}",
    ),
)

_GSM8K = f"{_GITHUB}/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c"

GSM8K = Card(
    name="gsm8k",
    title="GSM8K: grade-school mathematics with worked answers",
    source="Cobbe et al. 2021, arXiv 2110.14168; openai/grade-school-math 3101c7d",
    licence="MIT",
    metric="exact match of the final number",
    files=(
        DataFile(
            "gsm8k/train.jsonl",
            "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
            4_166_206,
            f"{_GSM8K}/grade_school_math/data/train.jsonl",
        ),
        DataFile(
            "gsm8k/test.jsonl",
            "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
            749_738,
            f"{_GSM8K}/grade_school_math/data/test.jsonl",
        ),
    ),
    splits={"train": 7473, "test": 1319},
    leaks=(
        "1,319 test rows: 0 stand in train too; 0 share a question and 0 an answer with it",
        f"1,319 test rows: 0 with a near-duplicate in train{_NEAR}",
    ),
)

_NQ = f"{_GITHUB}/google-research-datasets/natural-questions"

NQ_OPEN = Card(
    name="nq-open",
    title="NQ-Open: short answers to questions people asked a search engine",
    source="Lee et al. 2019, arXiv 1906.00300; google-research-datasets/natural-questions fb26a30; "
    f"train and test {_AUTHORS_FORM}",
    licence="CC BY-SA 3.0",
    metric="exact match with any right answer, by SQuAD's normal form",
    files=(
        _authors_file(
            "nq_open",
            "nq_open_train.jsonl",
            1_681_867,
            "a95d112bfc9ba1cbca37511003ca3bc7c5623d4e3187591aeea20273a83a7d37",
        ),
        _authors_file(
            "nq_open",
            "nq_open_test.jsonl",
            389_655,
            "77812745a8650ccf2b23e52dee0e8066b32189e48aaaccde37d08e0bb4ad0e6b",
        ),
        DataFile(
            "nq_open/NQ-open.dev.jsonl",
            "f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616",
            391_316,
            f"{_NQ}/fb26a3073b1fe636c97302890a27b491d6530130/nq_open/NQ-open.dev.jsonl",
        ),
    ),
    splits={"train": 8000, "test": 1769, "dev": 3610},
    leaks=(
        "731 train and 729 test answers are several right ones joined by '; '",
        "1,769 test rows: 0 stand in train too; 0 share a question and 264 an answer with it",
        f"1,769 test rows: 3 with a near-duplicate in train{_NEAR}",
        "3,610 dev rows: 0 stand in train too; 0 share a question and 520 an answer with it",
        f"3,610 dev rows: 9 with a near-duplicate in train{_NEAR}",
        "test is that of EfficientQA, most published figures are on dev",
    ),
)

_HELLASWAG = f"{_GITHUB}/klosax/hellaswag_text_data/60a646bd806bce22dcb2eb6d4fadb12f1472aa4c"

HELLASWAG = Card(
    name="hellaswag",
    title="HellaSwag: which of four endings fits a context",
    source="Zellers et al. 2019, arXiv 1905.07830; test rows of galilai-group/llm-jepa 6d7d0d1 "
    "(Apache-2.0), train rows of klosax/hellaswag_text_data (MIT)",
    licence="MIT",
    metric="accuracy of the ending with the highest likelihood per character",
    files=(
        _authors_file(
            "hellaswag",
            "hellaswag_test.jsonl",
            2_957_082,
            "07835fa76c8bf513b5651cab8ee18f814331d49f9e6c6a63039be129c598c095",
        ),
        DataFile(
            "hellaswag/hellaswag_val_full.txt.bz2",
            "50b637899e4263c2bc456c2dc726c95d2c8cd8e2a552ea5bd7719ce3cb03fe5b",
            1_964_544,
            f"{_HELLASWAG}/hellaswag_val_full.txt.bz2",
        ),
    ),
    splits={"train": 8033, "test": 2000},
    leaks=(
        "both splits are of the validation set's 10,042 rows, so public figures on it "
        "are not comparable",
        "9 rows that share a context with a test row, with other endings, are in neither split",
        "2,000 test rows: 0 stand in train too; 0 share a question and 2,000 an answer with it",
        "answers are letters, so all rows share them",
        f"2,000 test rows: 0 with a near-duplicate in train{_NEAR}",
    ),
)
