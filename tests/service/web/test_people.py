"""Tokens and invitations."""

from __future__ import annotations

import hashlib
import json
import stat

import pytest

from opsef_bridge.errors import InputError, LockedError, NotFoundError, ProjectError
from opsef_bridge.files import lock
from opsef_bridge.service.people import (
    People,
    checked_name,
    invitation,
    invite,
    known_address,
    list_people,
    revoke,
    token_count,
    write_invitation,
    write_private,
)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_known_and_no_other(tmp_path):
    record, token = invite(tmp_path, "Ada")
    people = People(tmp_path)
    assert people.who(token) == "Ada" == record["name"]
    for wrong in ("", token[:-1], token + "x", token.swapcase(), record["sha256"], "ä", "\udc80"):
        assert people.who(wrong) is None


def test_nobody_is_known_where_nobody_was_invited(tmp_path):
    assert People(tmp_path).who("x") is None
    assert People(tmp_path / "missing").who("x") is None


def test_the_token_is_not_on_the_disk(tmp_path):
    _, token = invite(tmp_path, "Ada")
    assert len(token) >= 43  # 256 bits
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or token.encode() not in path.read_bytes()


def test_only_the_owner_can_read_what_the_service_keeps(tmp_path):
    invite(tmp_path, "Ada")
    assert mode(tmp_path / ".opsef") == 0o700
    assert mode(tmp_path / ".opsef" / "people.json") == 0o600


def test_a_running_service_sees_who_comes_and_goes(tmp_path):
    people = People(tmp_path)
    _, ada = invite(tmp_path, "Ada")
    assert people.who(ada) == "Ada"
    _, bob = invite(tmp_path, "Bob")
    assert (people.who(ada), people.who(bob)) == ("Ada", "Bob")
    record = revoke(tmp_path, "ada")
    assert record["name"] == "Ada" and record["revoked"]
    assert (people.who(ada), people.who(bob)) == (None, "Bob")


def test_every_invitation_of_a_person_goes_on_until_all_are_revoked(tmp_path):
    _, first = invite(tmp_path, "Ada")
    _, second = invite(tmp_path, "ADA")
    _, bob = invite(tmp_path, "Bob")
    people = People(tmp_path)
    assert first != second and people.who(first) == people.who(second) == "ADA"
    assert [token_count(tmp_path, name) for name in ("ada ", "Bob", "Eve")] == [2, 1, 0]
    revoke(tmp_path, "ada")
    assert [people.who(token) for token in (first, second, bob)] == [None, None, "Bob"]
    assert token_count(tmp_path, "Ada") == 0
    invite(tmp_path, "Ada")
    assert len(list_people(tmp_path)) == 2  # those that were revoked are of no more use


def test_a_list_of_one_token_a_person_is_still_read(tmp_path):
    _, first = invite(tmp_path, "Ada")
    sha256 = hashlib.sha256(first.encode()).hexdigest()
    people = [{"name": "Ada", "sha256": sha256, "since": "2026-01-01T00:00:00+00:00"},
              {"name": "Bob", "sha256": None, "since": "", "revoked": "2026-01-02"}]  # fmt: skip
    (tmp_path / ".opsef" / "people.json").write_text(json.dumps({"opsef": 1, "people": people}))
    _, second = invite(tmp_path, "Ada")
    assert People(tmp_path).who(first) == People(tmp_path).who(second) == "Ada"
    assert [one["name"] for one in list_people(tmp_path)] == ["Ada", "Bob", "Ada"]


def test_who_was_revoked_can_be_invited_again(tmp_path):
    _, old = invite(tmp_path, "Ada")
    revoke(tmp_path, "Ada")
    _, new = invite(tmp_path, "Ada")
    assert People(tmp_path).who(new) == "Ada" and People(tmp_path).who(old) is None


def test_revoking_nobody_says_who_there_is(tmp_path):
    with pytest.raises(NotFoundError, match="Nobody"):
        revoke(tmp_path, "Ada")
    invite(tmp_path, "Bob")
    with pytest.raises(NotFoundError, match="Bob"):
        revoke(tmp_path, "Ada")
    revoke(tmp_path, "Bob")
    with pytest.raises(NotFoundError):
        revoke(tmp_path, "Bob")


@pytest.mark.parametrize("name", ["Ada Lovelace", "Jörg", "a", "ö.ä-ß", "x@y.de", "a" * 64])
def test_names_of_people(name):
    assert checked_name(f" {name} ") == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "../x", "a/b", "a\\b", "a\0b", "a\nb", ".hidden", "a" * 65, "x.", "-rf", "a:b"],
)
def test_what_is_no_name(name, tmp_path):
    with pytest.raises(InputError):
        invite(tmp_path, name)


def test_two_at_once_do_not_lose_each_other(tmp_path):
    invite(tmp_path, "Ada")
    with lock(tmp_path / ".opsef" / "people.lock"), pytest.raises(LockedError):
        invite(tmp_path, "Bob")
    assert [one["name"] for one in list_people(tmp_path)] == ["Ada"]


@pytest.mark.parametrize("text", ["{", "[]", '{"people": 3}', '{"people": [{"nam": 1}]}', "{}"])
def test_a_damaged_list_lets_nobody_in_and_says_so(tmp_path, text):
    _, token = invite(tmp_path, "Ada")
    (tmp_path / ".opsef" / "people.json").write_text(text)
    with pytest.raises(ProjectError, match=r"people\.json"):
        People(tmp_path).who(token)


def test_an_invitation_is_one_private_file(tmp_path):
    _, token = invite(tmp_path, "Jörg")
    value = invitation("Jörg", token, port=8470)
    file = write_invitation(tmp_path / "new", value)
    assert file.name == "Jörg.opsef" and mode(file) == 0o600
    assert json.loads(file.read_text("utf-8")) == {
        "opsef": 1, "address": "127.0.0.1", "port": 8470, "tls": False, "pin": None,
        "name": "Jörg", "token": token,
    }  # fmt: skip


@pytest.mark.parametrize("pin", [None, "", "ab", "g" * 64, "A" * 64])
def test_tls_without_a_pin_is_no_invitation(pin):
    with pytest.raises(InputError, match="pin"):
        invitation("Ada", "t", address="ws.example", port=1, tls=True, pin=pin)
    good = invitation("Ada", "t", address="ws.example", port=1, tls=True, pin="a" * 64)
    assert good["pin"] == "a" * 64


def test_private_files_are_private_from_the_first_byte_on(tmp_path, monkeypatch):
    import os

    seen = []
    replace = os.replace

    def look(source, target):
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    old = os.umask(0)
    try:
        write_private(tmp_path / "x", "secret")
    finally:
        os.umask(old)
    assert seen == [0o600] and (tmp_path / "x").read_text() == "secret"


def test_where_no_service_ever_was(tmp_path):
    assert known_address(tmp_path) is None
