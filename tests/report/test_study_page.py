"""The report of a study: its answer, its numbers, its files, and that no text breaks out."""

import csv
import html
import json
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from study_store import FORMULA, HOSTILE, Store, hostile, write

from semtube.errors import UserError
from semtube.report.escaping import csv_text, markdown_text, script_json
from semtube.report.study_cells import matching, paired, study_cells
from semtube.report.study_checks import fairness
from semtube.report.study_comparisons import NUM_RESAMPLES, deciding, family
from semtube.report.study_page import build_report, summary, write_report
from semtube.report.study_reading import read_study
from semtube.report.study_run_tables import setting_table
from semtube.statistics.detectable import detectable_difference
from semtube.statistics.equivalence import equivalence_test
from semtube.statistics.holm import holm
from semtube.statistics.intervals import bootstrap_interval
from semtube.statistics.paired import paired_t_test
from semtube.statistics.rows import mcnemar_p


def report_of(store: Store, folder: Path):
    return build_report(read_study(store.write(folder)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report folder of a study whose every text is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    store = hostile()
    store.fractions, store.num_rows, store.num_steps = (1.0, 0.5, 0.125), 60, 20
    return write_report(store.write(folder)).parent


class Elements(HTMLParser):
    """Names and attributes of all elements, and the text outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data) -> None:
        if not {"script", "style"} & set(self._open):
            self.text += data


def elements(page: str) -> Elements:
    found = Elements()
    found.feed(page)
    return found


def test_hostile_text_makes_no_element(written: Path) -> None:
    page = (written / "index.html").read_text()
    found = elements(page)
    assert not [tag for tag, _ in found.found if tag in ("img", "iframe", "object", "link-x")]
    assert not [a for _, attributes in found.found for a in attributes if a.startswith("on")]
    assert found.text.count(HOSTILE) > 20, "the texts are shown"
    assert "{{ 7 * 7 }}" in found.text
    scripts = [attributes for tag, attributes in found.found if tag == "script"]
    assert sum("type" not in attributes for attributes in scripts) == 2
    for spec in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S):
        assert "<" not in spec
        json.loads(spec)


def test_the_page_asks_for_nothing(written: Path) -> None:
    page = (written / "index.html").read_text()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    for tag, attributes in elements(page).found:
        assert "src" not in attributes, f"{tag} loads {attributes['src']}"
        target = attributes.get("href") or "#"
        assert target.startswith(("#", "data:", "figures/")), target


def test_every_file_is_there(written: Path) -> None:
    said = json.loads((written / "summary.json").read_text())
    for name in said["figures"]:
        assert (written / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (written / "figures" / f"{name}.svg").read_text().startswith("<svg")
        assert (written / "csv" / f"figure_{name}.csv").stat().st_size
    for name in (*said["tables"], "runs", "settings", "examples", "environments"):
        assert (written / "csv" / f"{name}.csv").stat().st_size
    assert {"accuracy_by_fraction", "differences", "arms", "accuracy_by_weight", "cost", "endings",
            "losses_by_weight", "agreement", "trace_loss", "trace_term_loss"} == set(
        said["figures"])  # fmt: skip


def test_csv_cannot_compute_and_markdown_cannot_break_out(written: Path) -> None:
    with (written / "csv" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["arm"] for row in rows} == {"ntp", HOSTILE, f"'{FORMULA}"}
    assert {row["cause"] for row in rows} == {"", HOSTILE}
    text = (written / "report.md").read_text()
    assert "<img" not in text.replace("\\<img", "")
    assert r"=HYPERLINK\(1\)\|\`\*\_" in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) >= 3


def test_escaping() -> None:
    assert markdown_text("a\n# b | `c`") == r"a \# b \| \`c\`"
    assert csv_text("=1+1") == "'=1+1"
    assert csv_text("-") == "'-"
    assert csv_text("1 = 1") == "1 = 1"
    value = {"a": "</script><!--\u2028\u2029&"}
    assert json.loads(script_json(value)) == value
    assert not set("<>&\u2028\u2029") & set(script_json(value))
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_numbers_are_those_of_the_statistics(tmp_path: Path) -> None:
    data = read_study(Store(gains={"ntp": 0.0, "tube": 0.08, "other": 0.01}).write(tmp_path))
    found = family(data)
    assert [(c.arm, c.places[0][0][1]) for c in found[:3]] == [
        ("tube", 1.0), ("other", 1.0), ("tube", 0.125),
    ]  # fmt: skip
    adjusted = holm({str(n): c.p_two_sided for n, c in enumerate(found)})
    for number, c in enumerate(found):
        pair = paired(data, "ntp", c.arm, c.places)
        difference = pair.b - pair.a
        by_seed = difference.mean(axis=1)
        test, equal = paired_t_test(by_seed), equivalence_test(by_seed, 0.02)
        assert (c.difference, c.t_interval, c.p_two_sided, c.p_one_sided) == (
            test.mean, test.interval, test.p_two_sided, test.p_greater,
        )  # fmt: skip
        assert (c.p_equivalence, c.is_equivalent) == (equal.p, equal.is_equivalent)
        assert c.p_holm == adjusted[str(number)]
        assert c.detectable == pytest.approx(detectable_difference(test.deviation, 3))
        assert c.bootstrap == bootstrap_interval(
            difference, over_seeds=True, confidence=0.95, num_resamples=NUM_RESAMPLES,
            generator=np.random.default_rng(0),
        )  # fmt: skip
        both, only_arm, only_baseline, neither = c.counts
        assert both + only_arm + only_baseline + neither == pair.a.size
        assert c.difference == pytest.approx((only_arm - only_baseline) / pair.a.size)


def test_a_change_after_the_first_run_is_told_at_the_top(tmp_path: Path) -> None:
    folder = Store(gains={"ntp": 0.0, "tube": 0.08}).write(tmp_path)
    study = json.loads((folder / "study.json").read_text())
    before = {**study, "hypothesis": "Twice as many.", "deciding": {"arm": "tube", "at": {}}}
    write(folder / "study.json", {
        **study, "changed": [{**before, "num_done": 3, "num_planned": 12}],
    })  # fmt: skip
    report = build_report(read_study(folder))
    hypothesis = "The hypothesis was changed after 3 of 12 runs were done; before, it was: "
    decides = "The comparison that decides was changed after 3 of 12 runs were done; before, it "
    assert report.answer.notes[:2] == (f"{hypothesis}Twice as many.", f"{decides}was: tube, at: -")
    assert "Expected beforehand: Twice as many." in report.answer.notes
    assert [check.state for check in fairness(report.data)][:2] == ["broken", "broken"]
    assert hypothesis in (write_report(folder).parent / "report.md").read_text()


def test_one_seed_has_mcnemars_test_and_no_test_over_seeds(tmp_path: Path) -> None:
    data = read_study(Store(seeds=(1,)).write(tmp_path))
    report = build_report(data)
    c = deciding(data)
    assert (c.t_interval, c.p_two_sided, c.is_equivalent, c.detectable) == (None,) * 4
    assert c.p_rows == mcnemar_p(c.counts[2], c.counts[1])
    assert report.answer.verdict == "undecided"
    assert "interval is withheld (one seed" in report.answer.sentence
    cells = report.tables[0]
    interval = [column.name for column in cells.columns].index("interval")
    assert {row[interval] for row in cells.shown()} == {
        "withheld: one seed says nothing about how seeds differ"
    }


def test_the_answer_reads_the_deciding_comparison(tmp_path: Path) -> None:
    """Clear differences either way, and one within the margin."""
    calm = {"noise": 0.001, "num_rows": 400, "seeds": (1, 2, 3, 4), "fractions": (1.0, 0.125)}
    for name, gain, verdict in (
        ("up", 0.2, "better"), ("down", -0.2, "worse"), ("same", 0.0, "equivalent"),
    ):  # fmt: skip
        store = Store(gains={"ntp": 0.0, "tube": gain}, margin=0.05, **calm)
        data = read_study(store.write(tmp_path / name))
        answer = build_report(data).answer
        c = deciding(data)
        assert answer.verdict == verdict
        assert c.places == ((("fraction", 0.125),),)
        assert f"{100 * c.difference:+.1f} points" in answer.sentence
        assert f"{100 * c.t_interval.low:+.1f} to {100 * c.t_interval.high:+.1f}" in answer.sentence
        assert "data multiplier" in answer.sentence


def test_identical_arms_differ_by_zero(tmp_path: Path) -> None:
    report = report_of(Store(gains={"ntp": 0.0, "tube": 0.0}, identical=True), tmp_path)
    assert "a difference of 0, on every one of 120 test rows under 3 seeds" in (
        report.answer.sentence
    )
    assert report.answer.headline == "No difference: tube and ntp score alike on every row"
    assert "multiplier of tube, at the accuracy of ntp with 1,000 examples, is 1 " in (
        report.answer.sentence
    )


def test_arms_that_are_always_wrong_are_not_called_alike(tmp_path: Path) -> None:
    """Their texts differ, which a score of 0 everywhere does not see."""
    report = report_of(Store(gains={"ntp": -9.0, "tube": -8.0}, fractions=(1.0, 0.125)), tmp_path)
    answer = report.answer
    assert answer.verdict == "undecided"
    assert answer.headline == "Undecided: every answer of tube and ntp is wrong"
    assert "within 2 points such scores cannot tell" in answer.sentence
    assert "multiplier" not in answer.sentence


def test_all_runs_failed(tmp_path: Path) -> None:
    causes = {(arm, seed): "no room left" for arm in ("ntp", "tube") for seed in (1, 2, 3)}
    folder = Store(failing=causes).write(tmp_path)
    page = write_report(folder)
    text = elements(page.read_text()).text
    assert "No answer: all 12 runs failed." in text
    assert text.count("no room left") == 1 + 12
    assert "window.vegaEmbed" not in page.read_text(), "nothing to draw, no library"
    assert list((folder / "report" / "figures").iterdir()) == []


def test_several_points_are_compared_at_once(tmp_path: Path) -> None:
    data = read_study(Store(at={}, fractions=(1.0, 0.5, 0.25, 0.125)).write(tmp_path))
    c = deciding(data)
    pair = paired(data, "ntp", "tube", matching(data, {}))
    assert len(c.places) == 4
    assert c.difference == pytest.approx(np.mean([f.difference for f in family(data)]))
    assert c.counts is None
    assert c.num_rows == pair.a.shape[1] == 120
    assert build_report(data).answer.sentence.startswith("Over 4 points, tube answers")


def test_a_repeated_test_read_is_told(tmp_path: Path) -> None:
    folder = Store(num_rows=20).write(tmp_path)
    reads = next((folder / "runs").glob("*/readings/test/reads.jsonl"))
    reads.write_text(reads.read_text() * 3)
    [check] = [c for c in fairness(read_study(folder)) if "Test rows were decoded" in c.sentence]
    assert check.state == "broken"
    assert "14 times by 12 final runs: 1 of them more than once" in check.sentence


def test_a_tuning_run_whose_test_rows_were_decoded_is_told(tmp_path: Path) -> None:
    folder = Store(num_rows=20, weights={"tube": [0.02, 0.08]}).write(tmp_path)
    data = read_study(folder)
    finals = {planned.run for planned in data.finals()}
    lost = next(planned.run for planned in data.plan if planned.run not in finals)
    shutil.copytree(
        folder / "runs" / next(iter(finals)) / "readings" / "test",
        folder / "runs" / lost / "readings" / "test",
    )
    [check] = [c for c in fairness(read_study(folder)) if "Test rows were decoded" in c.sentence]
    assert check.state == "broken"
    assert "times by 12 final runs: once each; 1 tuning run too, as when it is" in check.sentence


def test_arms_on_other_rows_are_told(tmp_path: Path) -> None:
    folder = Store(num_rows=20).write(tmp_path)
    result = next(iter(sorted((folder / "runs").glob("*/result.json"))))
    values = json.loads(result.read_text())
    values["fingerprints"]["train"] = "other"
    result.write_text(json.dumps(values))
    broken = [c.sentence for c in fairness(read_study(folder)) if c.state == "broken"]
    assert broken == ["Arms differ in the training rows (by fingerprint) at fraction 1, seed 1."]


def test_published_values_stand_beside_ours(tmp_path: Path) -> None:
    report = report_of(Store(fractions=(1.0, 1 / 16), at={"fraction": 1 / 16}), tmp_path)
    tables = {table.name: table.rows for table in report.tables}
    ours = {(c.arm, c.place[0][1]): c.mean for c in study_cells(report.data)}
    [ntp, tube] = tables["published_accuracy"]
    assert (ntp["paper"], ntp["ours"]) == (57.29 / 100, ours["ntp", 1.0])
    assert (tube["paper"], tube["ours"]) == (0.8429, ours["tube", 1.0])
    [low, full] = tables["published_fractions"]
    assert (low["arm"], low["paper"], low["ours"]) == ("tube", 56.34 / 100, ours["tube", 1 / 16])
    assert (full["arm"], full["paper"], full["ours"]) == ("ntp", 57.29 / 100, ours["ntp", 1.0])


def test_the_settings_of_every_run_are_told(tmp_path: Path) -> None:
    """In the CSV, in the summary and in the page; of a run that never began, what is planned."""
    folder = Store(not_begun=(3,), num_rows=20, num_steps=3).write(tmp_path)
    written = write_report(folder).parent
    configs = {
        path.parent.name: json.loads(path.read_text())
        for path in (folder / "runs").glob("*/config.json")
    }
    with (written / "csv" / "settings.csv").open(newline="") as file:
        rows = {row.pop("run"): row for row in csv.DictReader(file)}
    assert len(rows) == 12
    for run, config in configs.items():
        assert {name: rows[run][name] for name in config} == {n: str(v) for n, v in config.items()}
    told = json.loads((written / "summary.json").read_text())["settings"]
    for run, config in configs.items():
        assert told["all"] | told["runs"][run] == config
    begun = set(configs)
    assert {(rows[run]["arm"], rows[run]["seed"]) for run in set(rows) - begun} == {
        ("ntp", "3"), ("tube", "3"),
    }  # fmt: skip
    assert "csv/settings.csv" in (written / "report.md").read_text()


def test_a_setting_of_several_values_is_json_in_its_cell() -> None:
    table = setting_table({"a": {"options": {"form": "span"}, "layer": [4, -1]}, "b": {}})
    assert table.csv().splitlines() == [
        "run,layer,options", 'a,"[4, -1]","{""form"": ""span""}"', "b,,",
    ]  # fmt: skip


def test_an_arm_has_one_colour_in_all_figures(tmp_path: Path) -> None:
    report = report_of(Store(), tmp_path)
    colours = set()
    for figure in report.figures:
        text = json.dumps(figure.spec())
        for match in re.finditer(r'"domain": \["ntp", "tube"\], "range": (\["#[^\]]*\])', text):
            colours.add(match[1])
    assert len(colours) == 1


def test_the_summary_is_plain_json(tmp_path: Path) -> None:
    report = report_of(Store(), tmp_path)
    text = json.dumps(summary(report), allow_nan=False)
    assert len(text) < 100_000
    assert json.loads(text)["answer"]["sentence"] == report.answer.sentence


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    folder = Store(fractions=(1.0, 0.5), num_rows=20, num_steps=5, at={}).write(tmp_path)
    write_report(folder)
    for run in (folder / "runs").glob("0*"):
        shutil.rmtree(run)
    write_report(folder)
    assert list((folder / "report" / "figures").iterdir()) == []
    assert "No answer" in (folder / "report" / "report.md").read_text()


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    folder = Store(fractions=(1.0,), seeds=(1,), num_rows=10, num_steps=3, at={}).write(tmp_path)
    code = (
        "import sys; from semtube.cli import main; "
        f"assert main(['report', {str(folder)!r}]) == 0; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"The report is {folder / 'report' / 'index.html'}"


def test_no_study_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        write_report(tmp_path)


@pytest.mark.slow
def test_a_thousand_runs_of_two_thousand_rows(tmp_path: Path) -> None:
    """Ten times the time that the json module alone needs for the files, at most; under 10 MB.

    Measured: 4.6 times, and somewhat more than 6 in a slow hour of the same machine.
    """
    arms = {name: 0.02 * number for number, name in enumerate(("ntp", "tube", "mask", "view"))}
    fractions = [1 / 2**k for k in range(6)]
    store = Store(gains=arms, fractions=fractions, seeds=range(42), num_rows=2000, num_steps=1000)
    folder = store.write(tmp_path)
    assert len(list((folder / "runs").glob("*/result.json"))) == 1008
    started = time.process_time()
    for path in [*folder.glob("runs/*/readings/*/*.jsonl"), *folder.glob("runs/*/metrics.jsonl")]:
        json.loads("[" + ",".join(path.read_text().splitlines()) + "]")
    parsed = time.process_time()
    page = write_report(folder)
    assert time.process_time() - parsed < 10 * (parsed - started)
    assert page.stat().st_size < 10_000_000


def test_the_command_is_the_one_that_was_given(tmp_path) -> None:
    folder = Store().write(tmp_path / "study")
    command = "semtube study 'my studies/05.py' --quick"
    assert f"    {command}    # does" in (write_report(folder).parent / "report.md").read_text()
    # A store older than the field does not know its file.
    values = json.loads((folder / "study.json").read_text())
    del values["command"]
    (folder / "study.json").write_text(json.dumps(values))
    text = (write_report(folder).parent / "report.md").read_text()
    assert "    semtube study FILE    # does" in text
