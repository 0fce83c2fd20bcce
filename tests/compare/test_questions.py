from __future__ import annotations

import numpy as np
import pytest

from opsef_bridge.compare.groups import object_groups
from opsef_bridge.compare.questions import Question, next_questions


def variants_of(*rows: list[int]):
    """Groups of variants that have the objects 1, 2, ... of a line of pixels, or lack them."""
    images = [np.repeat(np.array([row]) * np.arange(1, len(row) + 1), 3, axis=1) for row in rows]
    return object_groups(images, [np.linspace(0.9, 0.1, sum(row)) for row in rows])


def asked(groups, scores, **more) -> list[int]:
    """Labels of the heads that are asked about."""
    found = next_questions([groups], np.array(scores), **more)
    return [int(groups.label[question.group]) for question in found]


def test_asks_where_the_leading_variants_disagree_and_not_where_the_others_do():
    groups = variants_of([1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0])
    # The third variant is far behind: what it alone has or lacks is hardly a question.
    assert asked(groups, [0.9, 0.9, 0.5])[0] == 2
    assert asked(groups, [0.9, 0.5, 0.9])[0] in (3, 4)


def test_what_all_have_is_no_question_and_what_was_answered_is_not_asked_again():
    groups = variants_of([1, 1, 0], [1, 0, 1])
    first = next_questions([groups], np.array([0.9, 0.9]))
    assert sorted(int(groups.label[q.group]) for q in first) == [2, 3]
    assert all(q.share == pytest.approx(0.5) for q in first)
    again = next_questions([groups], np.array([0.9, 0.9]), answered=[{first[0].group}])
    assert again == first[1:]


def test_images_share_one_list_and_count_limits_it():
    same = variants_of([1, 1], [1, 1])
    differ = variants_of([1, 1, 1], [1, 0, 0])
    found = next_questions([same, differ], np.array([0.8, 0.8]), count=1)
    assert [question.image for question in found] == [1]
    assert len(next_questions([same, differ], np.array([0.8, 0.8]))) == 2


def test_a_lonely_variant_and_none_at_all_leave_nothing_to_ask():
    assert next_questions([variants_of([1, 1])], np.array([0.5])) == []
    assert next_questions([], np.zeros(0)) == []
    assert next_questions([object_groups([], [])], np.zeros(0)) == []


def test_questions_compare_by_value():
    assert Question(0, 1, 0.5) == Question(0, 1, 0.5)
