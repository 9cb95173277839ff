"""`semtube report`."""

from __future__ import annotations

from pathlib import Path

from semtube.cli.parser import Parser


def build_parser() -> Parser:
    """The study's folder."""
    parser = Parser(
        "report",
        usage="FOLDER",
        description="Write a study's report from what its runs have stored so far: one page that "
        "opens offline, with Markdown, CSV and figures beside it, in FOLDER/report. Runs that "
        "failed or are missing are named in it.",
        example="semtube report studies-out/05_data_fractions",
    )
    parser.add_argument("folder", type=str, help="Folder of a study, as semtube study writes it.")
    return parser


def run(argv: list[str]) -> int:
    """Parse, write, and say the answer and where it stands."""
    options = build_parser().parse_args(argv)
    from semtube.report.study_page import write_report
    from semtube.run_folder import read_json

    page = write_report(Path(options.folder))
    print(read_json(page.with_name("summary.json"))["answer"]["sentence"])
    print(f"The report is {page}")
    return 0
