"""Gates: what they select, against pandas; what they refuse; that nothing is run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.analysis.gates import DEEPEST, LONGEST, parse_gate
from opsef_bridge.errors import InputError

TABLE = pd.DataFrame(
    {
        "label": np.arange(1, 7),
        "area": [10.0, 50.0, 200.0, 201.0, np.nan, 900.0],
        "solidity": [0.9, 0.5, 0.95, 0.89, 0.7, 1.0],
        "class": [0, 1, 2, 1, 0, 3],
        "well": ["A1", "A1", "B2", "B2", None, "C 3"],
        "drug": ["a", "", "b", "", "", "a"],
        "touches_border": [True, False, False, True, False, False],
        "1st channel": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    }
)


@pytest.mark.parametrize(
    ("gate", "labels"),
    [
        ("area > 200 and solidity < 0.9", [4]),
        ("area>200 or(solidity<.6)", [2, 4, 6]),
        ("10 < area <= 201", [2, 3, 4]),
        ("area == 200", [3]),
        ("not touches_border and class in (1, 2)", [2, 3]),
        ("class not in [1,2]", [1, 5, 6]),
        ("well == 'A1'", [1, 2]),
        ('well != "A1"', [3, 4, 6]),
        ("well not in ('A1', 'C 3')", [3, 4]),
        ("drug != 'a'", [3]),
        ("`1st channel` * 2 - 1 >= 9", [5, 6]),
        ("area / (class - 1) > 100", [3, 2, 4, 6]),
        ("-area < -200", [4, 6]),
        ("1 - 1 - 1 == -1", [1, 2, 3, 4, 5, 6]),
        ("area > 1e2 AND NOT (class == 2 OR class == 3)", [4]),
        ("area != 10", [2, 3, 4, 6]),
        ("not area == 10", [2, 3, 4, 5, 6]),
        ("touches_border or touches_border and area > 1e9", [1, 4]),
    ],
)
def test_a_gate_selects(gate, labels):
    found = parse_gate(gate).select(TABLE)
    assert found.dtype == bool and found.shape == (6,)
    assert sorted(TABLE["label"][found]) == sorted(labels)


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("area >", "ends where a value"),
        ("area > 200)", "cannot be understood"),
        ("(area > 200", "should be \\)"),
        ("class in 3", "list in brackets"),
        ("class in ()", "should be a value"),
        ("area > 'big'", "compares text with numbers"),
        ("well > 'A1'", "no order"),
        ("area = 200", "'= 200' compares nothing.*area == 200"),
        ("area < 9 and class = 1", "area == 200"),
        ("area", "no condition"),
        ("area and class", "no condition"),
        ("(area > 2) + 1 > 2", "no number"),
        ("__import__('os').system('true')", "cannot be understood"),
        ("area.__class__", "cannot be understood"),
        ("@area > 3", "cannot be understood"),
        ("area > 3px", "cannot be understood"),
        ("area > 3and class == 1", "cannot be understood"),
        ("aera > 200", "Did you mean area"),
        ("x" * (LONGEST + 1), str(LONGEST)),
        ("(" * (DEEPEST + 1) + "area > 1" + ")" * (DEEPEST + 1), str(DEEPEST)),
        ("not " * (DEEPEST + 1) + "touches_border", str(DEEPEST)),
    ],
)
def test_what_is_no_gate_is_refused_in_words(gate, told):
    with pytest.raises(InputError, match=told) as caught:
        parse_gate(gate).select(TABLE)
    assert caught.value.hint


def test_a_message_marks_the_place():
    with pytest.raises(InputError, match="area > 2 <here>\\$ 3"):
        parse_gate("area > 2 $ 3")


def test_an_empty_table_selects_nothing():
    assert parse_gate("area > 2 and well == 'A1'").select(TABLE[:0]).shape == (0,)
    assert parse_gate("1 < 2").select(TABLE[:0]).shape == (0,)


def test_the_columns_are_named_once():
    gate = parse_gate("area > 2 and class in (1, label) or `1st channel` + area < 3 - solidity")
    assert gate.columns == ("area", "class", "label", "1st channel", "solidity")


NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
SIGNS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


@settings(deadline=None)
@given(
    st.lists(st.one_of(NUMBERS, st.just(float("nan"))), max_size=8), NUMBERS, NUMBERS, SIGNS, SIGNS
)
def test_comparisons_are_those_of_pandas(values, one, two, first, second):
    table = pd.DataFrame({"x": np.array(values, float)})
    found = parse_gate(f"x {first} {one} or not (x {second} {two})").select(table)
    known = "x == x"
    wanted = table.eval(f"(x {first} {one} and {known}) or not (x {second} {two} and {known})")
    assert found.tolist() == wanted.tolist()


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_gate_or_a_refusal(text):
    try:
        found = parse_gate(text).select(TABLE)
    except InputError:
        return
    assert found.dtype == bool and found.shape == (len(TABLE),)
