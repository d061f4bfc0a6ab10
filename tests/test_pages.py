"""What `make check` finds in a page: references to what isn't there, and nothing else."""

from pathlib import Path

from tests.pages import anchors, faults


def found(folder: Path, **pages: str) -> list[str]:
    for name, text in {"README": "", **pages}.items():
        page = folder / f"{name.replace('__', '/')}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)
    return list(faults(["test"], folder))


def test_what_is_there_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "webhook").mkdir()
    guide = "# Who can't\n\n[up](../README.md) [here](#who-cant) [out](https://x.y/z)"
    readme = "`make test`, `webhook/`, [a page](docs/guide.md#who-cant), `tests/<id>/fail`"
    assert found(tmp_path, README=readme, docs__guide=guide) == []


def test_a_link_to_no_file(tmp_path: Path) -> None:
    expected = ["README.md: the link docs/none.md leads nowhere"]
    assert found(tmp_path, README="[a](docs/none.md)") == expected


def test_a_picture_that_is_no_file(tmp_path: Path) -> None:
    for picture in ("![a](docs/none.svg)", '<img src="docs/none.svg">'):
        expected = ["README.md: the link docs/none.svg leads nowhere"]
        assert found(tmp_path, README=picture) == expected


def test_a_link_to_no_heading(tmp_path: Path) -> None:
    expected = ["README.md: README.md has no heading #b"]
    assert found(tmp_path, README="# A\n\n```\n# b\n```\n[a](#a) [b](#b)") == expected


def test_a_file_and_a_target_that_are_not_there(tmp_path: Path) -> None:
    assert found(tmp_path, README="`webhook/none.py`, `make\nnone`") == [
        "README.md: there is no webhook/none.py",
        "README.md: `make none` is no target",
    ]
    assert found(tmp_path, README="```\nmake none\nmake test\n```") == [
        "README.md: `make none` is no target"
    ]


def test_a_page_that_no_page_leads_to(tmp_path: Path) -> None:
    lone = "# Lone\n[up](#lone)"
    assert found(tmp_path, docs__lone=lone) == ["docs/lone.md: no page leads to it"]


def test_headings_become_what_a_browser_looks_for() -> None:
    assert anchors("# `pvc-vm`\n## What it calls: all\n") == {"pvc-vm", "what-it-calls-all"}
