"""A published board: a folder whose every link leads to a file of it, and how it is served."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from board_entries import HOSTILE, Make

from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.build import HOW_TO_ADD, build
from iaside_plugins.leaderboard.publish import WORKFLOW, write_pages, write_space
from iaside_plugins.leaderboard.settings import FILE

yaml = pytest.importorskip("yaml")
Board = Callable[..., Path]


class Links(HTMLParser):
    """What a page links to and loads, and the names that links may lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found[key] or "" for key in ("href", "src") if key in found]
        self.ids |= {found[key] or "" for key in ("id", "name") if key in found}


def dead_links(folder: Path) -> list[str]:
    """Links of all pages and Markdown files of a folder that lead to no file of it."""
    dead = []
    for path in folder.rglob("*"):
        if path.suffix not in (".html", ".md"):
            continue
        text = path.read_text()
        page = Links(text)
        links = page.links if path.suffix == ".html" else [
            *re.findall(r"(?<!\\)\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)), *page.links
        ]  # fmt: skip
        for link in links:
            parts = urlsplit(link)
            if parts.scheme in ("data", "https"):
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            inside = target.resolve().is_relative_to(folder.resolve())
            if not (inside and target.is_file()):
                dead.append(f"{path.name}: {link}")
            elif parts.fragment and target.suffix == ".html":
                ids = Links(target.read_text()).ids
                dead += [] if unquote(parts.fragment) in ids else [f"{path.name}: {link}"]
    return dead


@pytest.fixture
def home(make_entry: Make, board: Board) -> Path:
    imagenet = make_entry("net", 2, dataset="imagenet")
    plain = [make_entry(name, k, perturbed=False) for k, name in enumerate((HOSTILE, "b"))]
    return board(*plain, imagenet)


def test_a_space_is_complete(home: Path, tmp_path: Path) -> None:
    (home / FILE).write_text("title = 'Ours: \"quoted\"'\n")
    n = write_space(home, tmp_path / "space")
    files = {p.relative_to(tmp_path / "space").as_posix() for p in (tmp_path / "space").rglob("*")
             if p.is_file()}  # fmt: skip
    assert n == len(files)
    build(home)
    here = {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()}
    assert files == here
    for name in files - {"README.md"}:
        assert (tmp_path / "space" / name).read_bytes() == (home / name).read_bytes(), name
    _, front, rest = (tmp_path / "space" / "README.md").read_text().split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["title"] == 'Ours: "quoted"'
    assert (found["sdk"], found["app_file"]) == ("static", "index.html")
    assert rest == (home / "README.md").read_text()


@pytest.mark.parametrize("how", [write_space, lambda home, out: build(home) and home.rename(out)])
def test_no_link_is_dead(home: Path, tmp_path: Path, how: Callable[[Path, Path], object]) -> None:
    out = tmp_path / "written"
    how(home, out)
    assert Links((out / "index.html").read_text()).links
    assert dead_links(out) == []
    (out / HOW_TO_ADD).unlink()
    assert dead_links(out) != []


def test_a_space_is_written_again(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "space"
    write_space(home, out)
    (out / ".git").mkdir()
    (out / ".git" / "config").write_text("theirs")
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    write_space(home, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == first
    next((home / "entries" / "imagenet").iterdir()).unlink()
    write_space(home, out)
    left = {path for path in out.rglob("*") if path.is_file()}
    gone = {path.relative_to(out).as_posix() for path in first.keys() - left}
    assert any(name.startswith("entries/imagenet/") for name in gone)
    assert any(name.startswith("latex/imagenet") for name in gone)
    assert (out / ".git" / "config").read_text() == "theirs"


def test_other_folders_are_left_alone(home: Path, tmp_path: Path) -> None:
    build(home)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("x")
    for folder in (home, tmp_path / "mine"):
        before = sorted(folder.rglob("*"))
        with pytest.raises(InputError, match="holds other files; give a new folder"):
            write_space(home, folder)
        assert sorted(folder.rglob("*")) == before


def test_pages_publish_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is in no git repository"):
        write_pages(tmp_path / "site")
    (tmp_path / ".git").mkdir()
    (tmp_path / "docs" / "site").mkdir(parents=True)
    assert write_pages(tmp_path / "docs" / "site") == tmp_path / WORKFLOW
    found = yaml.safe_load((tmp_path / WORKFLOW).read_text())
    job = found["jobs"]["publish"]
    (upload,) = [step for step in job["steps"] if "upload-pages" in step.get("uses", "")]
    assert upload["with"]["path"] == "docs/site"
    assert found[True]["push"]["paths"] == ["docs/site/**"]  # `on` is true in YAML 1.1
    assert found["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}
    for step in job["steps"]:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])
    assert job["environment"]["url"] == "${{ steps.deployment.outputs.page_url }}"
    with pytest.raises(InputError, match="expected a folder's name of letters"):
        write_pages(tmp_path / "a b")
