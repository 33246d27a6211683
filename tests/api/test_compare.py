"""Groups of runs compared, from folders to a sentence: figures that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.compare import GroupComparison, gather
from deeptaxi.errors import UsageError
from deeptaxi.metrics import to_json
from tests.written_runs import rate, write_group, write_run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 of 40 seeds are solved with 0.003, 31 of 40 with 0.001."""
    folder = tmp_path_factory.mktemp("sweep")
    write_group(folder / "fast", 40, 40, optimizer=rate(0.003), reached=300)
    write_group(folder / "slow", 40, 31, optimizer=rate(0.001))
    return folder


@pytest.fixture(scope="module")
def compared(sweep: Path) -> GroupComparison:
    return deeptaxi.compare(sweep, by="learning_rate")


def test_the_verdict_is_a_sentence_with_counts_and_p(compared: GroupComparison) -> None:
    assert compared.verdict == "0.003 solves more seeds than 0.001: 40 of 40 against 31 of 40, p = 0.0011."
    assert str(compared).startswith(compared.verdict)
    assert repr(compared) == f"GroupComparison(2 groups: {compared.verdict})"


def test_groups_have_shares_scores_and_times(compared: GroupComparison) -> None:
    slow, fast = compared.groups
    assert (slow.group.label, slow.optimal, slow.seeds) == ("0.001", 31, 40)
    assert (slow.share.low, slow.share.high) == pytest.approx((0.62497, 0.87684), abs=1e-5)
    assert slow.score["mean"].estimate == pytest.approx((31 + 9 / 2) / 40)
    assert (slow.score["median"].estimate, slow.score["iqm"].estimate) == (1, pytest.approx(0.975, abs=0.03))
    assert (fast.share.estimate, fast.share.high) == (1, 1)


def test_runs_that_are_not_optimal_are_censored(compared: GroupComparison) -> None:
    slow, fast = (one.updates_to_optimum for one in compared.groups)
    assert (slow.reached, slow.censored, slow.median.estimate) == (31, 9, 500)
    assert slow.curve.share == pytest.approx([9 / 40, 9 / 40])
    # Nine of forty reach no optimum within reach = all updates; the log of those that do says 300 of all of them.
    assert (fast.reached, fast.censored, fast.median.estimate) == (40, 0, 300)
    assert compared.groups[0].seconds_to_optimum.median.estimate == 5


def test_the_profile_is_the_share_of_seeds_above(compared: GroupComparison) -> None:
    thresholds, share, low, high = compared.groups[0].profile
    assert (thresholds[0], thresholds[-1]) == (0, 1)
    assert share[thresholds < 0.499].tolist() == [1] * int((thresholds < 0.499).sum())
    assert share[(thresholds > 0.501) & (thresholds < 1)] == pytest.approx(31 / 40)
    assert share[-1] == 0
    assert ((low <= share) & (share <= high)).all()


def test_the_pair_has_all_tests(compared: GroupComparison) -> None:
    (pair,) = compared.pairs
    assert (pair.best, pair.other, pair.p, pair.p_adjusted) == ("0.003", "0.001", pair.p, pair.p)
    assert pair.probability_of_improvement.estimate == pytest.approx(0.5 + 9 / 80)  # 9 of 40 worse, 31 tie
    assert pair.time_p < 1e-6
    assert pair.score_p < 0.01
    assert pair.seeds_to_tell == 30


def test_the_document_is_json_of_the_same(compared: GroupComparison) -> None:
    found = json.loads(to_json(compared.to_dict()))
    assert list(found) == [
        "by", "score", "verdict", "verdicts", "best_run", "groups", "pairs", "overall", "left_out", "remarks",
    ]  # fmt: skip
    assert found["verdicts"] == {"FrozenLake-v1": compared.verdict}
    assert found["best_run"].endswith("fast/seed-0")
    assert (found["by"], found["score"]) == (["learning_rate"], "normalized_score")
    assert found["groups"][1]["seeds"] == list(range(40))
    assert found["groups"][1]["updates_to_optimum"]["not_optimal_yet"]["times"] == [300]
    assert found["groups"][1]["updates_to_optimum"]["not_optimal_yet"]["low"] == [None]


def test_the_same_runs_give_the_same_numbers(sweep: Path, compared: GroupComparison) -> None:
    assert deeptaxi.compare([sweep], ["optimizer.learning_rate"]).to_dict()["pairs"] == compared.to_dict()["pairs"]


def test_by_default_the_setting_that_differs_is_found(sweep: Path, compared: GroupComparison) -> None:
    found = deeptaxi.compare(sweep)
    assert (found.by, found.verdict) == (compared.by, compared.verdict)
    assert found.remarks[0] == "The runs are grouped by learning_rate, in which they differ."


def test_what_is_not_told_apart_says_how_many_seeds_would(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 10, 9, optimizer=rate(0.1))
    write_group(tmp_path / "b", 10, 7, optimizer=rate(0.2))
    found = deeptaxi.compare(tmp_path)
    assert found.verdict == (
        "These seeds do not tell 0.1 from 0.2: 9 of 10 against 7 of 10 solved, p = 0.33. "
        "If the shares are as they look, about 52 more seeds each would tell."
    )


def test_equal_shares_are_told_apart_by_time(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 10, 10, optimizer=rate(0.1), reached=300)
    write_group(tmp_path / "b", 10, 10, optimizer=rate(0.2), reached=600)
    found = deeptaxi.compare(tmp_path)
    assert found.verdict == (
        "0.1 and 0.2 solve the same share of seeds: 10 of 10 against 10 of 10. "
        "0.1 is optimal sooner: a median of 300 against 600 updates, p < 0.0001 (log-rank)."
    )
    assert "all seeds score the same, so that the bootstrap has no width" in found.remarks[-1]


def test_where_no_seed_is_solved_scores_decide(tmp_path: Path) -> None:
    for seed in range(8):
        write_run(tmp_path / f"a{seed}", seed=seed, optimal=False, score=0.8 + seed / 100, optimizer=rate(0.1))
        write_run(tmp_path / f"b{seed}", seed=seed, optimal=False, score=0.4 + seed / 100, optimizer=rate(0.2))
    assert deeptaxi.compare(tmp_path).verdict == (
        "No seed of 0.1 or 0.2 is solved. 0.1 scores higher than 0.2: a seed of 0.1 has a higher normalized score than "
        "one of 0.2 with a probability of 100 % (95 %: 100 % to 100 %), p = 0.00016."
    )


def test_of_several_groups_the_best_is_beside_each_with_p_times_all_pairs(tmp_path: Path) -> None:
    for value, optimal in ((0.1, 2), (0.2, 12), (0.3, 11), (0.4, 1)):
        write_group(tmp_path / str(value), 12, optimal, optimizer=rate(value))
    found = deeptaxi.compare(tmp_path)
    assert [(pair.best, pair.other) for pair in found.pairs] == [("0.2", "0.3"), ("0.2", "0.1"), ("0.2", "0.4")]
    assert all(pair.p_adjusted == pytest.approx(min(1, 6 * pair.p)) for pair in found.pairs)
    assert found.verdict.endswith("2 of the 3 others certainly solve fewer.")


def test_two_runs_only_say_what_an_interval_can_say(tmp_path: Path) -> None:
    write_run(tmp_path / "a", optimizer=rate(0.1))
    write_run(tmp_path / "b", optimizer=rate(0.2), optimal=False)
    found = deeptaxi.compare(tmp_path)
    assert found.verdict.startswith("A single seed cannot tell 0.1 from 0.2: another may reverse the order")
    assert found.groups[0].score["iqm"].low is None
    assert found.groups[0].profile is None
    assert (found.groups[0].share.low, found.groups[0].share.high) == (pytest.approx(0.2065, abs=1e-4), 1)
    assert "0.1 and 0.2: one seed has no interval of its score" in found.remarks[-1]


def test_few_seeds_are_said_to_have_too_narrow_intervals(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 2, 2, optimizer=rate(0.1))
    write_group(tmp_path / "b", 2, 0, optimizer=rate(0.2))
    found = deeptaxi.compare(tmp_path)
    assert "0.1 and 0.2: fewer than 5 seeds" in found.remarks[-1]
    assert "do not tell 0.1 from 0.2: 2 of 2 against 0 of 2 solved, p = 0.12" in found.verdict


def test_one_group_is_described(tmp_path: Path) -> None:
    found = deeptaxi.compare(write_group(tmp_path, 5, 5))
    assert (found.pairs, found.by) == ((), ())
    assert found.verdict == (
        "5 of 5 seeds are optimal: between 57 % and 100 % of all seeds would be (95 %). "
        "There is one group, and nothing to compare it with."
    )


def test_one_run_is_described(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    assert deeptaxi.compare(tmp_path).verdict.startswith("There is one run, and it is optimal. One seed says nothing")


def test_problems_are_compared_each_for_itself_and_their_scores_together(tmp_path: Path) -> None:
    for place in (True, False):
        for value, optimal in ((0.1, 6), (0.2, 3)):
            group = tmp_path / f"{place}-{value}"
            write_group(group, 6, optimal, optimizer=rate(value), kwargs={"is_slippery": place})
    found = deeptaxi.compare(tmp_path, by=["env", "learning_rate"])
    assert list(found.verdicts) == ["FrozenLake-v1 is_slippery=false", "FrozenLake-v1 is_slippery=true"]
    assert all("0.1 from learning_rate=0.2" not in text for text in found.verdicts.values())
    assert [(pair.environment[-5:], pair.best) for pair in found.pairs] == [("false", "0.1"), ("=true", "0.1")]
    assert found.overall["learning_rate=0.1"]["mean"].estimate == 1
    assert found.overall["learning_rate=0.2"]["mean"].estimate == 0.75
    assert found.verdict.count("\n") == 1
    with pytest.raises(UsageError, match=r"those on each, .* --by env"):
        deeptaxi.compare(tmp_path, by="learning_rate")


def test_sampled_runs_are_compared_by_returns_and_said_to_be(tmp_path: Path) -> None:
    for seed in range(6):
        for value, mean in ((0.1, 5.0), (0.2, 3.0)):
            episodes = {"count": 100, "mean_return": mean + seed / 10, "ci95": [0.0, 9.0]}
            write_run(tmp_path / f"{value}-{seed}", seed=seed, optimizer=rate(value), episodes=episodes)
    found = deeptaxi.compare(tmp_path)
    assert (found.score, found.groups[0].share, found.groups[0].optimal) == ("return", None, None)
    assert found.verdict.startswith("0.1 scores higher than 0.2: a seed of 0.1 has a higher return")
    assert found.groups[0].score["mean"].estimate == pytest.approx(5.25)
    assert "There is no exact verdict on all runs" in found.remarks[-1]
    assert found.groups[0].updates_to_optimum is None


def test_where_an_optimum_cannot_be_decided_there_is_no_share(tmp_path: Path) -> None:
    write_run(tmp_path / "a", optimal=None, score=0.9)
    write_run(tmp_path / "b", seed=1)
    found = deeptaxi.compare(tmp_path)
    assert found.groups[0].share is None
    assert any("cannot be determined" in remark for remark in found.remarks)


def test_a_run_without_a_log_has_a_verdict_but_no_time(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 3, 3, log=False)
    found = deeptaxi.compare(tmp_path)
    assert (found.groups[0].optimal, found.groups[0].updates_to_optimum) == (3, None)
    assert any("no log says them" in remark for remark in found.remarks)


def test_what_is_left_out_is_said_with_the_reason(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 3, 3)
    write_run(tmp_path / "b", seed=7, stopped="interrupted")
    write_run(tmp_path / "c", seed=8, failure="the environment broke")
    write_run(tmp_path / "d", seed=9, optimal=None, episodes=None, log=False)
    found = deeptaxi.compare(tmp_path)
    assert found.left_out == {
        str(tmp_path / "b"): "its training was ended early, after 1,000 updates",
        str(tmp_path / "c"): "its training failed: the environment broke",
    }
    assert any("1 of the runs left out failed: they do not count" in remark for remark in found.remarks)


def test_jobs_of_a_sweep_that_failed_are_said_although_they_left_no_folder(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 3, 3)
    (tmp_path / "sweep.toml").touch()
    lines = [
        {"job": "a/seed-0", "point": "a", "seed": 0, "status": "done"},
        {"job": "a/seed-3", "point": "a", "seed": 3, "status": "failed", "reason": "it diverged"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "results.jsonl").write_text(text, encoding="utf-8")
    found = deeptaxi.compare(tmp_path)
    assert found.left_out == {str(tmp_path / "a/seed-3"): "its training failed: it diverged"}
    assert any("1 of the runs left out failed" in remark for remark in found.remarks)


def test_without_a_finished_run_there_is_nothing_to_compare(tmp_path: Path) -> None:
    write_run(tmp_path / "b", stopped="interrupted")
    with pytest.raises(UsageError, match=r"no finished run to compare: .*b: its training was ended early"):
        deeptaxi.compare(tmp_path)


def test_a_copy_of_a_run_counts_once(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a")
    copy = tmp_path / "b"
    copy.mkdir()
    for path in first.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    found = deeptaxi.compare(tmp_path)
    assert found.groups[0].seeds == 1
    assert found.left_out == {str(copy): f"it is the same training as {first}"}


def test_runs_in_memory_are_compared_as_those_in_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = {"updates": 200, "eval_every": 50, "environments": 8, "batch_size": 32, "env_args": {"is_slippery": False}}
    runs = [
        deeptaxi.train("FrozenLake-v1", q_table=True, seed=seed, learning_rate=value, **quick)
        for value in (0.003, 1e-6)
        for seed in (0, 1)
    ]
    found = deeptaxi.compare(runs, by="learning_rate")
    assert [one.group.label for one in found.groups] == ["1e-06", "0.003"]
    assert found.groups[1].optimal == 2
    with pytest.raises(UsageError, match="save it first"):
        found.report("page.html")
    with pytest.raises(UsageError, match="received list"):
        gather([[1]])


def test_scores_of_all_groups_are_finite(compared: GroupComparison) -> None:
    assert all(np.isfinite(one.scores).all() for one in compared.groups)
