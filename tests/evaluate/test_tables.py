"""The table writer: what it writes in each format, to the letter."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from captum_mda.evaluate.tables import (
    AS_GOOD,
    Cell,
    Column,
    difference_table,
    score_table,
    Table,
)
from captum_mda.metrics.statistics import (
    compare,
    comparison_table,
    mean_interval,
    MeanInterval,
)

INTERVAL = MeanInterval(
    mean=-0.25, low=-0.5, high=0.125, n=4, n_missing=1, confidence=0.95, method="BCa"
)
COLUMNS = (
    Column(name="image", align="left"),
    Column(name="method", heading="method_name", align="left"),
    Column(name="score", heading="Del ↓", format=".3f", missing="n/a"),
    Column(name="forwards", format=","),
)
TABLE = Table(
    columns=COLUMNS,
    rows=(
        {"image": "dog", "method": "le|grad", "score": 1 / 3, "forwards": 12345},
        {"image": "a_cat", "method": Cell("error: 5 % & none", spans=True)},
        {"image": "owl", "method": "tis", "score": None, "forwards": 7},
    ),
    notes=("lower is better",),
)


def test_text_sets_columns_and_lets_an_error_fill_its_line() -> None:
    assert TABLE.to_text() == (
        "image  method_name  Del ↓  forwards\n"
        "-----------------------------------\n"
        "dog    le|grad      0.333    12,345\n"
        "a_cat  error: 5 % & none\n"
        "owl    tis            n/a         7\n"
        "lower is better"
    )


def test_markdown_escapes_its_signs() -> None:
    assert TABLE.to_markdown() == (
        "| image | method\\_name | Del ↓ | forwards |\n"
        "| --- | --- | ---: | ---: |\n"
        "| dog | le\\|grad | 0.333 | 12,345 |\n"
        "| a\\_cat | error: 5 % & none |  |  |\n"
        "| owl | tis | n/a | 7 |\n"
        "\n"
        "lower is better"
    )


def test_latex_escapes_its_signs_and_has_the_rules_of_booktabs() -> None:
    assert TABLE.to_latex() == (
        "\\begin{tabular}{llrr}\n"
        "\\toprule\n"
        "image & method\\_name & Del $\\downarrow$ & forwards \\\\\n"
        "\\midrule\n"
        "dog & le|grad & 0.333 & 12,345 \\\\\n"
        "a\\_cat & \\multicolumn{3}{l}{error: 5 \\% \\& none} \\\\\n"
        "owl & tis & n/a & 7 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\par {\\footnotesize lower is better}"
    )


def test_csv_holds_all_digits_of_everything_in_the_rows() -> None:
    rows = (
        {"name": "a,b", "right": True, "score": 1 / 3, "model": "x"},
        {"name": "c", "right": None, "score": Cell(INTERVAL, bold=True), "seed": 0},
    )
    columns = (
        Column(name="name", heading="Its name"),
        Column(name="right"),
        Column(name="score", format=".1f"),
    )
    assert Table(columns=columns, rows=rows).to_csv() == (
        "name,right,score,score_low,score_high,model,seed\r\n"
        '"a,b",True,0.3333333333333333,,,x,\r\n'
        "c,,-0.25,-0.5,0.125,,0\r\n"
    )


def test_styles_stand_on_the_value_and_on_the_mean_of_an_interval() -> None:
    columns = (
        Column(name="code", align="left"),
        Column(name="plain"),
        Column(name="short", format="+.2f [.1f]"),
    )
    row = {
        "code": Cell("a_b|c", code=True),
        "plain": Cell(INTERVAL, mark=AS_GOOD),
        "short": Cell(INTERVAL, bold=True, mark="*"),
    }
    table = Table(columns=columns, rows=(row,), caption="50 % of them")
    assert table.to_text().splitlines() == [
        "50 % of them",
        "code                     plain               short",
        "-" * 50,
        f"a_b|c  -0.250{AS_GOOD} [-0.500, 0.125]  -0.25* [-0.5, 0.1]",
    ]
    assert table.to_markdown().splitlines()[-1] == (
        rf"| `a_b\|c` | -0.250{AS_GOOD} [-0.500, 0.125] | **-0.25**\* [-0.5, 0.1] |"
    )
    assert table.to_latex().splitlines()[:3] == [
        r"\begin{table}",
        r"\centering",
        r"\caption{50 \% of them}",
    ]
    assert table.to_latex().splitlines()[7] == (
        r"\texttt{a\_b|c} & $-$0.250$^\ast$ [$-$0.500, 0.125] & "
        r"\textbf{$-$0.25}* [$-$0.5, 0.1] \\"
    )


def test_a_function_formats_values() -> None:
    table = Table(
        columns=(Column(name="seconds", format=lambda value: f"{value:.1f} s"),),
        rows=({"seconds": 2.25}, {"seconds": 10}),
    )
    assert table.to_text() == "seconds\n-------\n  2.2 s\n 10.0 s"


@pytest.mark.parametrize("suffix", [".txt", ".md", ".tex", ".csv"])
def test_a_file_is_of_the_format_of_its_ending(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    TABLE.write(path)
    found = path.read_bytes().decode("utf-8")
    if suffix == ".csv":
        assert found == TABLE.to_csv()
        with open(path, newline="", encoding="utf-8") as file:
            assert next(csv.DictReader(file))["score"] == repr(1 / 3)
    else:
        wanted = {
            ".txt": TABLE.to_text,
            ".md": TABLE.to_markdown,
            ".tex": TABLE.to_latex,
        }
        assert found == wanted[suffix]() + "\n"
    assert list(tmp_path.iterdir()) == [path]


def test_another_ending_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes a name that ends in \.txt, \.md"):
        TABLE.write(tmp_path / "table.xlsx")
    assert not list(tmp_path.iterdir())


SCORES = {
    "insertion": {
        "ours": np.array([0.5, 0.7, 0.9]),
        "theirs": np.array([0.4, 0.8, 0.6]),
        "none": np.full(3, np.nan),
    },
    "mine": {"ours": np.array([1.0, 2.0, 3.0]), "theirs": np.array([1.0, 1.0, np.nan])},
}


def test_table_of_scores_has_a_row_for_each_method() -> None:
    table = score_table(
        SCORES,
        titles={"ours": "Ours"},
        higher_is_better={"mine": False},
        format=".2f [.1f]",
    )
    assert table.to_markdown() == (
        "| method | Ins ↑ | mine ↓ |\n"
        "| --- | ---: | ---: |\n"
        f"| Ours | **0.70** [0.6, 0.9] | 2.00{AS_GOOD} [1.0, 3.0] |\n"
        f"| theirs | 0.60{AS_GOOD} [0.5, 0.8] | **1.00** [1.0, 1.0] |\n"
        "| none | n/a | n/a |"
    )
    assert table.rows[0]["insertion"].value == mean_interval([0.5, 0.7, 0.9])


def test_metric_of_ones_own_needs_its_direction() -> None:
    with pytest.raises(ValueError, match=r"'mine' is no metric .* higher_is_better"):
        score_table(SCORES)


def test_table_of_differences_holds_what_compare_finds() -> None:
    pair = {name: SCORES["insertion"][name] for name in ("ours", "theirs")}
    table = difference_table({"insertion": pair})
    (found,) = compare(pair, metric="insertion")
    assert table.rows[0] == {
        "metric": "Ins ↑",
        "method": "ours",
        "mean": mean_interval(pair["ours"]),
        "n": 3,
        "verdict": "reference",
    }
    assert table.rows[1]["difference"] == found.difference
    assert table.rows[1]["p"] == found.adjusted_p_value
    # The cells are those of the table that statistics writes.
    theirs = table.to_markdown().splitlines()[3]
    wanted = comparison_table(pair, metric="insertion").splitlines()[3]
    assert theirs == f"| Ins ↑ {wanted}"


def test_verdicts_of_differences_follow_the_test() -> None:
    few = {"ours": [0.2, 0.1, 0.3, 0.2], "theirs": [0.3, 0.3, 0.6, 0.6]}
    verdict = difference_table({"deletion": few}).rows[1]["verdict"]
    assert verdict == "not distinguishable by the test; the interval leaves out 0"
    many = {name: np.arange(12) + 100.0 * n for n, name in enumerate(few)}
    table = difference_table({"deletion": many}, reference="theirs")
    assert [row["verdict"] for row in table.rows] == ["better", "reference"]


def test_tables_are_imported_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import types; root = types.ModuleType('captum_mda')\n"
        "root.__path__ = [sys.argv[1]]; sys.modules['captum_mda'] = root\n"
        "import captum_mda.evaluate.tables; assert 'numpy' not in sys.modules"
    )
    folder = Path(__file__).parents[2] / "captum_mda"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
