"""The graph printed in docs/ir.md is the graph that its example gives. UPDATE_GOLDEN=1 prints it anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

from snncompile.ir.text_form import to_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ir.md"
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n\ngives\n\n```text\n(?P<text>.*?)```", re.DOTALL)


def test_the_graph_in_the_page(capsys) -> None:
    page = PAGE.read_text(encoding="utf-8")
    found = BLOCK.search(page)
    assert found is not None
    namespace: dict = {"__name__": "page"}
    above = "\n" * page.count("\n", 0, found.start("code"))  # names of values come from the lines of the page
    exec(compile(above + found["code"], str(PAGE), "exec"), namespace)
    capsys.readouterr()
    text = to_text(namespace["graph"], places=False)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        PAGE.write_text(page[: found.start("text")] + text + page[found.end("text") :], encoding="utf-8")
    else:
        assert found["text"] == text, "run this test with UPDATE_GOLDEN=1 and read the diff"
