"""Settings are the search: what this version doesn't know is refused, what it added is no change."""

import pytest
from command import evo_aar

from evo_aar.errors import UsageError
from evo_aar.search.settings import SearchSettings
from population.store import Store

SETTINGS = SearchSettings(testbed="mini/math", also=("mini/chat",), models=("a", "b"))


def test_settings_come_back_from_the_store():
    assert SearchSettings.from_json(SETTINGS.to_json()) == SETTINGS


def test_a_setting_that_a_later_version_added_is_refused():
    with pytest.raises(UsageError, match=r"settings that this version .* doesn't know: pruning, speed"):
        SearchSettings.from_json({**SETTINGS.to_json(), "speed": 2, "pruning": True})


def test_added_settings_are_on_record_where_they_say_something():
    assert not {"selection", "topology"} & set(SETTINGS.to_json())
    other = SearchSettings(testbed="mini/math", topology="star")
    assert other.to_json()["topology"] == "star"
    assert SearchSettings.from_json(other.to_json()) == other


@pytest.mark.parametrize("command", [("resume",), ("status",), ("export", "--best", "-o", "out")])
def test_every_command_refuses_a_search_with_unknown_settings_and_leaves_it_as_it_was(
    command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "later" / "search.sqlite"
    Store.create(path, {**SETTINGS.to_json(), "speed": 2}).close()
    before = path.read_bytes()
    assert "doesn't know: speed" in evo_aar(command[0], "later", *command[1:]).error
    assert path.read_bytes() == before
