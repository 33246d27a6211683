"""What is drawn as sound is so; no training is made here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sound_trainings import MOST_STATES, SoundTraining, count_alarms, draw_settings, draw_table


@pytest.mark.parametrize("number", range(20))
def test_settings_go_with_the_table_and_follow_from_the_number(number):
    rng = np.random.default_rng(number)
    family, table = draw_table(rng)
    settings = draw_settings(rng, table)
    assert table.states <= MOST_STATES
    together = max(1.0, settings["batch_size"] / (table.states * table.actions))
    assert settings.get("tabular_step", 0.0) * together <= 0.5  # which never overshoots
    again = np.random.default_rng(number)
    assert draw_table(again)[0] == family
    assert draw_settings(again, table) == settings


def test_only_trainings_that_end_optimal_are_counted():
    sound = SoundTraining(0, "lock", {}, optimal=True, findings=("dead-relu-units:note",))
    alarm = SoundTraining(1, "lock", {}, optimal=True, findings=("diverged:severe",), warned_before=("untrained",))
    bad = SoundTraining(2, "lock", {}, findings=("untrained:severe",), warned_before=("untrained",))
    counts = count_alarms([sound, alarm, bad])
    assert (counts["trained"], counts["healthy"], counts["severe"]) == (3, 2, 1)
    assert counts["other"] == {"dead-relu-units:note": 1}
    assert counts["warned_before_update_1"] == {"untrained": 1}
