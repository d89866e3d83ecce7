"""What GitHub reads is what it understands, and runs what a person can run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import tools

PROJECT = Path(__file__).resolve().parents[1]
GITHUB = PROJECT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").iterdir())
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").iterdir() if path.name != "config.yml")
READ = [
    *((path, "vendor.github-workflows") for path in WORKFLOWS),
    *((path, "custom.github-workflows-require-timeout") for path in WORKFLOWS),
    *((path, "vendor.github-issue-forms") for path in FORMS),
    (GITHUB / "ISSUE_TEMPLATE" / "config.yml", "vendor.github-issue-config"),
    (GITHUB / "dependabot.yml", "vendor.dependabot"),
]
EACH_WORKFLOW = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


def _commands(workflow: Path) -> Iterator[str]:
    """The commands of a workflow's jobs."""
    for job in yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values():
        for step in job["steps"]:
            yield from step.get("run", "").splitlines()


@pytest.mark.parametrize(
    ("path", "schema"), READ, ids=[f"{path.name}-{schema}" for path, schema in READ]
)
def test_schema_finds_no_fault(path: Path, schema: str) -> None:
    tools.developed("check-jsonschema", "--builtin-schema", schema, str(path))


@EACH_WORKFLOW
def test_scripts_and_make_targets_that_are_run_are_there(workflow: Path) -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = {*re.findall(r"^([a-z-]+):", makefile, re.M)}
    for command in _commands(workflow):
        program, *arguments = command.split()
        if program.startswith(".ci/"):
            assert os.access(PROJECT / program, os.X_OK)
            subprocess.run(["bash", "-n", PROJECT / program], check=True, timeout=60)
        elif program == "make":
            assert {*arguments} <= targets


@EACH_WORKFLOW
def test_workflow_may_only_read_unless_a_job_says_more(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {
        "contents": "read"
    }


def test_tensorflow_is_installed_once_for_each_change() -> None:
    needs_tensorflow = {".ci/run", "test", "coverage", "prove", "chaos"}
    jobs = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    heavy = [
        name
        for name, job in jobs.items()
        if any(needs_tensorflow & {*step.get("run", "").split()} for step in job["steps"])
    ]
    assert heavy == ["all"]
    assert "matrix" not in jobs["all"].get("strategy", {})
