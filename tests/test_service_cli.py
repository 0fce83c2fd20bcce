"""``opsef invite|inbox|fiji|serve`` as a person types them."""

from __future__ import annotations

import json
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from opsef_bridge.files import write_json
from opsef_bridge.service.fiji import bundle, install, scripts
from opsef_bridge.service.people import People
from opsef_bridge.service.requests import write_request
from tests.exchange.conftest import finished, project  # noqa: F401  (fixtures)
from tests.test_objects_cli import opsef  # noqa: F401  (fixture)


def test_an_invitation_lets_one_person_in(opsef, tmp_path):  # noqa: F811
    root = tmp_path / "projects"
    root.mkdir()
    code, _, err = opsef("invite", "Ada", "--root", root, "--to", tmp_path)
    assert code == 2 and "opsef serve" in err
    where = {"address": "127.0.0.1", "port": 8765, "tls": False, "pin": None}
    write_json(root / ".opsef" / "service.json", where)
    code, out, err = opsef("invite", "Ada", "--root", root, "--to", tmp_path)
    assert code == 0, err
    file = tmp_path / "Ada.opsef"
    assert "OpSeF > Connect" in out and str(file) in out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    told = json.loads(file.read_text())
    assert (told["name"], told["port"], told["pin"]) == ("Ada", 8765, None)
    assert told["token"] not in out
    assert People(root).who(told["token"]) == "Ada"
    assert told["token"] not in (root / ".opsef" / "people.json").read_text()
    assert "invitations" not in out
    code, out, err = opsef("invite", "Ada", "--root", root, "--to", tmp_path / "laptop")
    assert code == 0 and "Ada has 2 invitations" in out, err
    second = json.loads((tmp_path / "laptop" / "Ada.opsef").read_text())["token"]
    assert People(root).who(told["token"]) == People(root).who(second) == "Ada"
    assert opsef("invite", "Ada", "--root", root, "--revoke")[0] == 0
    assert People(root).who(second) is None
    assert People(root).who(told["token"]) is None


def test_the_inbox_is_done_in_order(opsef, project):  # noqa: F811
    code, out, _ = opsef("inbox", "run")
    assert code == 0 and "Nothing waits" in out
    write_request(project, "adopt", {"variant": "v0002"}, author="ada")
    code, out, err = opsef("inbox", "run")
    assert code == 0 and "adopt by ada" in out and "done" in out, err
    assert project.adopted()["default"]["by"] == "ada"
    write_request(project, "adopt", {"variant": "v0099"}, author="ada")
    code, out, _ = opsef("inbox", "run")
    assert code == 1 and "failed" in out and "v0099" in out


def test_the_menu_is_put_into_a_folder_of_imagej(opsef, tmp_path):  # noqa: F811
    app = tmp_path / "Fiji ä"
    code, _, err = opsef("fiji", "install", app)
    assert code == 2 and "plugins" in err
    (app / "plugins").mkdir(parents=True)
    (app / "plugins" / "Mine.py").write_text("mine")
    code, out, _ = opsef("fiji", "install", app)
    assert code == 0 and "plugins/OpSeF/Connect.py" in out
    assert {p.relative_to(app).as_posix() for p in app.rglob("*.py")} == {
        *scripts(),
        "plugins/Mine.py",
    }
    assert "nothing changed" in opsef("fiji", "install", app)[1]
    (app / "plugins" / "OpSeF" / "Connect.py").write_text("older")
    old = app / "jars" / "Lib" / "opsef_fiji" / "gone.py"
    old.write_text("older")
    old.with_name("gone$py.class").write_bytes(b"older")
    done = install(app)
    assert done.changed == ["plugins/OpSeF/Connect.py"]
    assert done.removed == ["jars/Lib/opsef_fiji/gone.py"]
    assert not old.exists() and not old.with_name("gone$py.class").exists()
    assert (app / "plugins" / "Mine.py").read_text() == "mine"


def test_the_zip_has_the_same_and_is_the_same_every_time(opsef, tmp_path):  # noqa: F811
    assert opsef("fiji", "bundle", tmp_path / "a.zip")[0] == 0
    assert (tmp_path / "a.zip").read_bytes() == bundle(tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == scripts()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5"])
def test_other_computers_need_the_flag(opsef, tmp_path, host):  # noqa: F811
    code, _, err = opsef("serve", tmp_path, "--host", host, "--port", "0")
    assert code == 2 and "--allow-remote" in err


def test_the_package_brings_the_scripts():
    root = Path(__file__).parents[1]
    text = (root / "pyproject.toml").read_text()
    assert '"fiji_scripts" = "opsef_bridge/fiji_scripts"' in text
    assert (root / "fiji_scripts" / "plugins" / "OpSeF").is_dir()


def test_without_the_extra_the_way_out_is_said(opsef, tmp_path, monkeypatch):  # noqa: F811
    for name in [name for name in sys.modules if name.startswith("opsef_bridge.service.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    code, _, err = opsef("serve", tmp_path, "--port", "0")
    assert code == 2 and "opsef_bridge[service]" in err and "Traceback" not in err
