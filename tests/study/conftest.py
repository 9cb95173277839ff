"""A small study that is done, for all tests that read it or a copy of it."""

import pytest
from small_study import STUDY, do_study

from semtube.study.runner import StudyFolder


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return do_study(STUDY, tmp_path_factory.mktemp("study") / "a")[0]
