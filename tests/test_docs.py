"""What the pages say is there: paths, links, ten answers, and the floors that hold."""

import re
from pathlib import Path

import pytest
from commands import run_code
from house import measure_house
from test_architecture import _MAY_IMPORT, _PARTS

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "docs" / "house.md"
PAGES = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
] + sorted((ROOT / "docs").glob("*.md"))

_MOST_LINES = 120
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", _read_prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


# README


def test_the_readme_is_short_and_begins_with_a_result():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= _MOST_LINES
    assert any(line.startswith("FedAsync polynomial") for line in lines[:35])


def test_every_page_of_the_documentation_is_linked_from_the_readme():
    links = re.findall(r"\]\((docs/\w+\.md)\)", (ROOT / "README.md").read_text())
    assert set(links) == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


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
