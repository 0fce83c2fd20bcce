"""The text of the page: nothing leaves it, nothing breaks out of it, nothing is lost in it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re

import numpy as np
import pandas as pd
import pytest

from opsef_bridge.analysis.page import (
    PageData,
    for_service,
    number_columns,
    render_page,
    service_policy,
    word_columns,
)
from opsef_bridge.errors import InputError

EVIL = '</script><script>alert("x")</script>&<!--'


def objects(count: int = 5) -> pd.DataFrame:
    k = np.arange(count)
    return pd.DataFrame(
        {
            "image": np.full(count, "i00001-a", object),
            "label": k + 70_000,
            "run": "run-0001",
            "variant": "v0001",
            "revision": "",
            "class": k % 256,
            "area": k * 1.5,
            "touches_border": k % 2 == 0,
            "cluster": k % 3,
            "bbox_y0": k,
            "pixel_size_y": 0.5,
            "unit": "um",
            "where": np.full(count, EVIL, object),
            "wells": np.array([f"A{n}" for n in k], object),
        }
    )


def payload(text: str) -> dict:
    [found] = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    return json.loads(found)


def unpacked(text: str, dtype: str) -> list:
    return np.frombuffer(base64.b64decode(text), dtype).tolist()


def test_numbers_are_axes_and_kinds_are_colours():
    table = objects()
    assert number_columns(table) == ["area", "touches_border"]
    assert word_columns(table) == [
        "image", "run", "variant", "revision", "touches_border", "cluster", "where", "wells",
    ]  # fmt: skip


def test_every_value_arrives():
    table = objects()
    told = payload(render_page(PageData("p", table, units={"area": "um^2"})))
    assert unpacked(told["labels"], "<i4") == table["label"].tolist()
    assert unpacked(told["classes"], "u1") == table["class"].tolist()
    assert unpacked(told["numbers"]["area"], "<f4") == table["area"].tolist()
    assert told["words"]["cluster"]["names"] == ["", "1", "2"]
    codes = unpacked(told["words"]["cluster"]["codes"], "<u2")
    assert codes == table["cluster"].tolist()
    assert told["words"]["touches_border"]["names"] == ["no", "yes"]
    # A single kind is no colour, but what names an object is exported.
    assert {"image", "run", "variant", "revision"} <= set(told["words"])
    assert "where" not in told["words"] and told["units"]["area"] == "um^2"
    assert unpacked(told["places"], "<i4") == [-1] * 10


def test_ten_follows_two():
    table = objects(12)
    table["cluster"] = np.arange(12)
    names = payload(render_page(PageData("p", table)))["words"]["cluster"]["names"]
    assert names[:3] + names[-1:] == ["", "1", "2", "11"]


def test_text_stays_text():
    table = objects()
    table.loc[0, "where"] = "here"
    text = render_page(PageData(EVIL, table, class_names={1: EVIL}, said=[EVIL]))
    assert "alert(" not in text.replace("alert(&quot;", "").replace('\\u003cscript>alert(\\"', "")
    told = payload(text)
    assert told["words"]["where"]["names"] == [EVIL, "here"]
    assert told["project"] == told["classNames"]["1"] == EVIL
    assert text.count("</script>") == 2


def test_only_its_own_script_runs_and_nothing_is_fetched():
    text = render_page(PageData("p", objects()))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    [script] = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    outside = re.findall(r"(?:src|href)=|@import|url\(|https?:|XMLHttp", text)
    assert outside == []
    # To a service that shows the page, by its own path; the policy of the file forbids even that.
    assert re.findall(r"fetch\(.{14}", text) == ["fetch(`/v1/projects/"]
    assert "connect-src" not in policy


def test_equal_data_give_equal_pages_and_other_objects_another_memory():
    one, same = (render_page(PageData("p", objects())) for _ in range(2))
    other = render_page(PageData("p", objects().assign(revision="r0001")))
    assert one == same
    assert payload(one)["key"] != payload(other)["key"]


def test_a_sample_is_said_and_unknown_columns_are_not_chosen():
    text = render_page(PageData("p", objects(), total=123_456, x="gone", colour="gone"))
    assert "5 objects of 1 image, drawn at random from 123,456" in text
    told = payload(text)
    assert (told["x"], told["y"], told["colour"]) == ("area", "touches_border", "class")


@pytest.mark.parametrize("columns", [["area"], []])
def test_few_columns_and_no_objects(columns):
    table = objects(0)[["image", "label", "run", "variant", "revision", "class", *columns]]
    told = payload(render_page(PageData("p", table)))
    assert told["count"] == 0 and list(told["numbers"]) == columns


def test_a_service_shows_the_page_with_a_policy_of_its_own():
    text = render_page(PageData("p", objects()))
    told = {"project": "p", "author": 'A"><script>', "key": "k", "newest": {"i00001-a": "r0001"}}
    shown = for_service(text, told)
    assert "http-equiv" not in shown and 'A"><script>' not in shown
    [content] = re.findall('<meta name="opsef-service" content="(.*?)">', shown)
    assert json.loads(html.unescape(content)) == told
    policy = service_policy()
    [script] = re.findall(r"<script>(.*?)</script>", shown, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy and "unsafe-inline'; script" in policy
    for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert payload(shown) == payload(text)


def test_a_page_of_another_version_is_not_shown():
    text = render_page(PageData("p", objects()))
    other = text.replace("script-src 'sha256-", "script-src 'sha256-x")
    for bad in (other, "", "<!DOCTYPE html>", text.replace("<head>", "<head>" + " " * 5000)):
        with pytest.raises(InputError, match="another version"):
            for_service(bad, {})
