# SPDX-License-Identifier: GPL-3.0-or-later
"""Which symbolic links of a tree lead to what the tree has not."""

from pathlib import Path

import pytest

from restaura import trees
from restaura.trees.links import Links


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name in ("tree/inner/file", "tree/inner/left-out.tmp", "tree/file", "beside/file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "tree/folder").symlink_to("inner")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("../file", "tree/file"),
        ("file", "tree/inner/file"),
        ("../folder/file", "tree/inner/file"),
        ("../folder/../file", "tree/file"),
        (".././inner//", "tree/inner"),
        ("../../tree/file", "tree/file"),
        ("{top}/tree/file", "tree/file"),
        ("/as/others/see/it/inner/file", "tree/inner/file"),
        ("/as/others/see/it", "tree"),
        ("gone", None),
        ("left-out.tmp", None),
        ("link", None),
        ("..", "tree"),
        ("../..", None),
        ("../../beside/file", None),
        ("{top}/beside/file", None),
        ("../../../tree/file", None),
        ("/as/others/see/it-not/file", None),
        ("/tree/file", None),
    ],
)
def test_a_link_leads_where_the_kernel_would_take_it(top: Path, target: str, leads_to: str | None) -> None:
    (top / "tree/inner/link").symlink_to(target.format(top=top))
    index = trees.scan(top, ["tree"], trees.Selection(["*.tmp"]))
    links = Links(index, {f"{top}/tree": "tree", "/as/others/see/it": "tree"})
    found = links.follow("tree/inner/link")
    assert (found.path if found else None) == leads_to
    assert [one.path for one in links.leading_out()] == ([] if leads_to else ["tree/inner/link"])


def test_a_link_of_the_whole_host_may_go_up_beyond_the_root(top: Path) -> None:
    (top / "tree/inner/link").symlink_to(f"{'../' * 30}{str(top)[1:]}/beside/file")
    roots = [f"{str(top)[1:]}/{one}" for one in ("tree", "beside")]
    assert Links(trees.scan(Path("/"), roots)).leading_out() == []
    (top / "tree/above").symlink_to("..")
    assert [one.path for one in Links(trees.scan(Path("/"), roots)).leading_out()] == [f"{roots[0]}/above"]
    assert len(Links(trees.scan(Path("/"), roots[:1])).leading_out()) == 2
