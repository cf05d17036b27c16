"""What the pages say is there: paths, links, names, ten answers, floors that hold.

``make docs`` builds the pages and executes the notebooks; here they are only read.
"""

import ast
import functools
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commands import run_code
from house import measure_house
from test_architecture import _MAY_IMPORT, _PARTS

import fedasync_jax as fa
from fedasync_jax.cli.command import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOMS = ROOT / "fedasync_jax"
HOUSE = DOCS / "house.md"
PAGES = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
] + sorted(DOCS.rglob("*.md"))
NOTEBOOKS = [page for page in PAGES if "{code-cell}" in page.read_text()]

_MOST_LINES = 80
_IN_A_RUN_FOLDER = ("METHOD/", "plots/", "tensorboard/")


def _read_prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def find_paths(text: str) -> list[str]:
    """Return what looks like a path in backticks: with a slash, a file or a folder."""
    spans = re.findall(r"`([^`\s]+)`", text)
    return [
        span
        for span in spans
        if "/" in span and re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.py|\.md)", span)
    ]


def read_section(page: Path, title: str) -> str:
    """Return what stands below a heading, up to the next one."""
    (section,) = re.findall(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)",
        page.read_text(),
        flags=re.DOTALL | re.MULTILINE,
    )
    return section


def read_rows(section: str) -> list[list[str]]:
    """Return the cells of a table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _read_prose(page), re.MULTILINE)
    kept = (re.sub(r"[^\w -]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in kept}


# Paths and links


def test_paths_are_told_from_other_words():
    text = "`a/b.py` `a/` `a/b/c.md` `a.py` `a / b` `runs/x.npz` `--flag` `/a/x.py`"
    assert find_paths(text) == ["a/b.py", "a/", "a/b/c.md"]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_paths_exist(page):
    missing = [
        path
        for path in find_paths(_read_prose(page))
        if not path.startswith(_IN_A_RUN_FOLDER)
        and (not (ROOT / path).exists() or (ROOT / path).is_dir() != path.endswith("/"))
    ]
    assert not missing


def test_the_pages_name_paths():
    assert len(find_paths(_read_prose(HOUSE))) > 20
    assert len(find_paths(_read_prose(ROOT / "CONTRIBUTING.md"))) > 20


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", _read_prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


# Installation


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_page_installs_from_an_index_that_lacks_the_package(page):
    assert not re.search(r"pip install [\"']?fedasync-jax", page.read_text())


def test_every_command_is_in_the_table():
    rows = read_rows(read_section(DOCS / "install.md", "The command"))
    assert {row[0].strip("`") for row in rows} == {f"fedasync {c}" for c in COMMANDS}


# README


def test_the_readme_is_short_and_begins_with_a_result():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= _MOST_LINES
    assert any(line.startswith("FedAsync polynomial") for line in lines[:35])


def test_the_pages_agree_on_how_long_the_default_job_takes():
    measured = read_section(DOCS / "performance.md", "Second runs")
    (first, *second) = re.findall(
        r"`make train` took ([\d.]+) s at first.*?then ([\d.]+) and ([\d.]+) s",
        measured,
        flags=re.DOTALL,
    )[0]
    for page in (ROOT / "README.md", DOCS / "quickstart.md", DOCS / "faq.md"):
        told = re.findall(r"(\d+)\sseconds on two(?: CPU)? cores", page.read_text())
        assert told == [f"{float(first):.0f}"], page.name
    assert {f"{float(time):.0f}" for time in second} == {"8"}
    assert "in eight the next time" in (DOCS / "faq.md").read_text()


def test_every_page_of_the_documentation_is_in_the_contents():
    listed = [DOCS / "index.md"]
    for page in DOCS.rglob("index.md"):
        for tree in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), re.DOTALL):
            listed += [
                page.parent / f"{line}.md"
                for line in tree.splitlines()
                if line and not line.startswith(":")
            ]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(DOCS.rglob("*.md"))


# The reference


def _public(module: ModuleType) -> dict[str, Any]:
    """Return what ``__all__`` names, else what a module defines."""
    own = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and name[0] != "_"
    ]
    return {name: getattr(module, name) for name in getattr(module, "__all__", own)}


@functools.cache
def _described() -> tuple[set[str], list[Any]]:
    """Return the modules that the reference lists in full, and all objects in it."""
    text = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    modules = set(re.findall(r"automodule:: (\S+)", text))
    rooms = [room for room in vars(fa).values() if isinstance(room, ModuleType)]
    objects = [
        value
        for room in rooms
        if room.__name__ in modules
        for value in _public(room).values()
    ]
    for name in re.findall(r"(?:autofunction|autoclass):: (\S+)", text):
        module, _, attribute = name.rpartition(".")
        objects.append(getattr(importlib.import_module(module), attribute))
    return modules, objects


@pytest.mark.parametrize("name", sorted(set(fa.__all__) - {"__version__"}))
def test_every_public_name_is_in_the_reference(name):
    modules, objects = _described()
    value = getattr(fa, name)
    if isinstance(value, ModuleType):
        assert value.__name__ in modules
    else:
        assert any(value is other for other in objects)


@pytest.mark.parametrize(
    "room", sorted(path.parent.name for path in ROOMS.glob("*/__init__.py"))
)
def test_what_a_room_offers_is_listed(room):
    module = importlib.import_module(f"fedasync_jax.{room}")
    # Completion and the reference read dir(), which leaves out what __getattr__ finds.
    assert set(getattr(module, "__all__", ())) <= set(dir(module))


# Notebooks


def _read_cells(page: Path) -> list[str]:
    """Return the code of a notebook, without the lines that speak to Jupyter."""
    cells = re.findall(
        r"^```{code-cell} ipython3\n(.*?)^```",
        page.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    return [re.sub(r"^%.*\n", "", cell, flags=re.MULTILINE) for cell in cells]


def test_there_are_notebooks():
    tutorials = set((DOCS / "tutorials").glob("*.md"))
    assert len(tutorials) == 8
    assert tutorials < set(NOTEBOOKS)


@pytest.mark.parametrize("page", NOTEBOOKS, ids=_name)
def test_a_notebook_is_python_and_names_what_there_is(page):
    cells = _read_cells(page)
    assert len(cells) == page.read_text().count("```{code-cell}") > 2
    for cell in cells:
        ast.parse(cell)
        for path in re.findall(r"\bfa\.([A-Za-z_.]+\w)", cell):
            functools.reduce(getattr, path.split("."), fa)


@pytest.mark.parametrize("page", NOTEBOOKS, ids=_name)
def test_a_notebook_can_be_told_from_a_page(page):
    head = page.read_text().split("---\n")[1]
    assert "format_name: myst" in head and "name: python3" in head


# The house


def test_ten_questions_have_one_path_each():
    rows = read_rows(read_section(HOUSE, "Where is ...?"))
    assert len(rows) == 10
    for question, answer in rows:
        (path,) = find_paths(question + answer)
        assert answer == f"`{path}`"
        assert (ROOT / path).is_file(), path


def test_the_floors_are_those_that_hold():
    rows = read_rows(read_section(HOUSE, "Floors and rooms"))
    floors = {room.strip("`"): floor for floor, room, _, _ in rows}
    assert len(rows) == len(floors)
    assert floors.keys() == {*measure_house().rooms, "base", "tree"}
    assert {room for room, floor in floors.items() if floor == "3"} == _PARTS
    for _, room, _, cell in rows:
        assert _expand(cell, floors) == _MAY_IMPORT[room.strip("`")], room


def _expand(cell: str, floors: dict[str, str]) -> set[str]:
    """Return the rooms of a cell such as "floors 1 to 4, `engine`"."""
    rooms = set(re.findall(r"`(\w+)`", cell))
    if match := re.search(r"floors? (\d)(?: to (\d))?", cell):
        low, high = int(match[1]), int(match[2] or match[1])
        within = {str(floor) for floor in range(low, high + 1)}
        rooms |= {room for room, floor in floors.items() if floor in within}
    return rooms


# Parts of one's own


def test_the_part_of_your_own_is_a_method_with_a_flag():
    section = read_section(ROOT / "docs" / "experiments.md", "Parts of your own")
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    code += (
        "\nfrom fedasync_jax.experiment.presets import make_settings"
        "\nprint(make_settings(methods=('fedasync-cut',), cut_at=15.0)['cut_at'])"
        "\nprint(*cut(15.0)(jnp.array([0, 15, 16])))"
    )
    done = run_code(code, import_anew=True)
    assert done.stdout.split() == ["15.0", "1.0", "1.0", "0.1"]
