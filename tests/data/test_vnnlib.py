"""Properties by hand, what is refused, and the ACAS Xu files."""

from __future__ import annotations

import numpy as np
import pytest

from suture.data.acasxu import acas_property, instances, network
from suture.data.vnnlib import parse_vnnlib, read_vnnlib
from suture.errors import DataError

HEAD = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "(assert (and (<= X_0 0.5) (>= X_0 -1e-1) (<= -2 X_1) (>= 3 X_1))) ; a comment )\n"


def rows(system):
    matrix, right = system
    return matrix.tolist(), right.tolist()


def test_a_box_and_two_ways_to_be_unsafe():
    text = HEAD + BOX + "(assert (or (and (<= Y_0 Y_1) (>= Y_0 2)) (< (+ (* 2 Y_0) Y_1 1) 4.5)))"
    made = parse_vnnlib(text)
    ((lower, upper),) = made.boxes
    assert lower.tolist() == [-0.1, -2.0] and upper.tolist() == [0.5, 3.0]
    assert rows(made.unsafe[0]) == ([[1.0, -1.0], [-1.0, 0.0]], [0.0, -2.0])
    assert rows(made.unsafe[1]) == ([[2.0, 1.0]], [3.5])
    outputs = np.array([[2.0, 2.0], [1.0, 2.0], [1.0, 1.0], [3.0, 2.0]])
    assert made.violated_by(outputs).tolist() == [True, False, True, False]
    inputs = np.array([[0.5, 3.0], [0.6, 0.0], [-0.1, -2.1]])
    assert made.admits(inputs).tolist() == [True, False, False]


def test_assertions_are_joined_and_disjunctions_multiplied():
    text = (
        HEAD
        + BOX
        + "(assert (or (<= X_0 0) (>= X_0 0.25)))(assert (or (<= Y_0 0) (<= Y_1 0)))"
        + "(assert (or (>= Y_0 1) (= Y_1 (- 7))))(assert (<= (- Y_0 Y_1 2) (- Y_1)))"
    )
    made = parse_vnnlib(text)
    assert [(box[0][0], box[1][0]) for box in made.boxes] == [(-0.1, 0.0), (0.25, 0.5)]
    assert len(made.unsafe) == 4
    assert rows(made.unsafe[1]) == (
        [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]],
        [0.0, -7.0, 7.0, 2.0],
    )


def test_an_empty_case_of_the_inputs_is_dropped():
    text = HEAD + BOX + "(assert (or (<= X_0 -5) (>= X_0 0)))(assert (<= Y_0 Y_1))"
    assert len(parse_vnnlib(text).boxes) == 1


@pytest.mark.parametrize(
    "text",
    [
        "(assert (<= X_0 1)",
        "(assert (<= X_0 1)))",
        "(check-sat)",
        "(assert (<= (* X_0 X_1) 1))",
        "(assert (<= Y_0 X_1))",
        "(assert (<= Y_7 0))",
        "(assert (<= (+ X_0 X_1) 1))",
        "(assert (<= Y_0 nan))",
        "(assert (xor (<= Y_0 1) (<= Y_1 1)))",
        "(assert (<= 1 2))",
        "(" * 5000,
    ],
)
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(DataError, match="VNN-LIB"):
        parse_vnnlib(HEAD + BOX + text)


def test_a_missing_bound_is_refused():
    with pytest.raises(DataError, match="every input"):
        parse_vnnlib(HEAD + "(assert (<= X_0 1))(assert (<= Y_0 0))")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="nothing.vnnlib"):
        read_vnnlib(tmp_path / "nothing.vnnlib")


@pytest.mark.data
@pytest.mark.usefixtures("data_folder")
def test_the_ten_properties_of_acas_xu():
    made = {number: acas_property(number) for number in range(1, 11)}
    shapes = {number: (len(p.boxes), [len(b) for _, b in p.unsafe]) for number, p in made.items()}
    assert shapes[1] == (1, [1])
    assert shapes[2] == (1, [4])
    assert shapes[6] == (2, [1, 1, 1, 1])
    assert shapes[7] == (1, [3, 3])
    lower, upper = made[2].boxes[0]
    assert lower.tolist() == [0.6, -0.5, -0.5, 0.45, -0.5]
    assert upper.tolist() == [0.679857769, 0.5, 0.5, 0.5, -0.45]
    scores = np.array([[5.0, 1, 2, 3, 4], [4.0, 1, 2, 3, 5]])
    assert made[2].violated_by(scores).tolist() == [True, False]


@pytest.mark.data
@pytest.mark.usefixtures("data_folder")
def test_the_instances_of_acas_xu():
    listed = instances()
    assert len(listed) == 186
    assert sum(one.property == 2 for one in listed) == 45
    assert all(network(one.a, one.b).is_file() for one in listed)
    with pytest.raises(DataError, match="acasxu"):
        network(9, 9)
