"""The documents say what is so: paths exist, links lead somewhere, every command is described."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from wgpy.cli.main import wgpy

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
TOP = ("wgpy", "coordinator", "rust", "tests", "benchmarks", "docs", "packaging", ".ci")


def text_of_all() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)


def without_code(text: str) -> str:
    """Fenced and indented blocks and code spans have no links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.M)
    return re.sub(r"`[^`\n]*`", "`x`", text)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as forges make them."""
    headings = re.findall(r"^#+ +(.*)$", document.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


def test_every_path_in_the_architecture_page_exists() -> None:
    spans = re.findall(r"`([^`\n]+)`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    paths = [span for span in spans if re.fullmatch(r"[\w.\-]+(/[\w.\-]*)+", span) and span.startswith(TOP)]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_document_is_reached_from_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")]
    assert [page for page in pages if page != "index.md" and f"({page})" not in index] == []


def test_every_command_is_documented() -> None:
    documents = text_of_all()
    missing = [" ".join(path) for path, _ in commands(wgpy, ("wgpy",)) if " ".join(path) not in documents]
    assert missing == []


def test_every_command_and_option_explains_itself() -> None:
    for path, command in commands(wgpy, ("wgpy",)):
        assert command.help, f"{' '.join(path)} has no help"
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"{' '.join(path)} {parameter.opts[0]} has no help"


def test_every_environment_variable_is_documented() -> None:
    sources = [*ROOT.glob("wgpy/**/*.py"), *ROOT.glob("coordinator/**/*.py")]
    used = {name for path in sources for name in re.findall(r'"((?:WGPY|WG)_[A-Z_]+)"', path.read_text())}
    documents = text_of_all()
    assert sorted(name for name in used if name not in documents) == []
