from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import io, sparse

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.files.outcomes import ReadOptions
from deeptaxi.mdp.files.read import read_table_file, read_value
from deeptaxi.mdp.planning import greedy_policy, value_iteration

FOREST = [26.244, 29.484, 33.484]  # the values of the forest at a discount of 0.9, from the manual of MDPtoolbox


def forest():
    """The forest of MDPtoolbox: wait (0) or cut (1); waiting, it burns with probability 0.1."""
    wait = np.array([[0.1, 0.9, 0], [0.1, 0, 0.9], [0.1, 0, 0.9]])
    cut = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]], float)
    return np.stack([wait, cut]), np.array([[0, 0], [0, 1], [4, 2]], float)


def growth(most=10, lot=5, discount=0.9):
    """QuantEcon's simple growth-like problem: of a stock s eat s − a, store a; a more than s is forbidden by −∞."""
    states, actions = most + lot + 1, lot + 1
    reward, chance = np.full((states, actions), -np.inf), np.zeros((states, actions, states))
    for s in range(states):
        for a in range(actions):
            if a <= s:
                reward[s, a] = (s - a) ** 0.5
            chance[s, a, a : a + most + 1] = 1 / (most + 1)
    return reward, chance, discount


def pairs(p, r, **change):
    """The first action of the forest as QuantEcon's pairs, changed."""
    return {"Q": p[0], "R": r[:, 0], "s_indices": [0, 1, 2], "a_indices": [0, 0, 0], **change}


def values(reading, discount=0.9):
    table = reading.table
    return value_iteration(table, discount, table.action_mask).value


@pytest.mark.parametrize(
    "value",
    [
        lambda p, r: (p, r),
        lambda p, r: (p.tolist(), r.tolist()),
        lambda p, r: (list(p), r),
        lambda p, r: ([sparse.csr_matrix(matrix) for matrix in p], r),
        lambda p, r: ([sparse.coo_array(p[0]), p[1]], r),
        lambda p, r: (p, np.repeat(r.T[:, :, None], 3, 2)),
        lambda p, r: (list(map(sparse.csc_array, p)), [sparse.csr_array(np.repeat(c[:, None], 3, 1)) for c in r.T]),
        lambda p, r: (p.transpose(1, 0, 2), r),
        lambda p, r: (p.transpose(1, 2, 0), r),
        lambda p, r: {"P": p, "R": r},
        lambda p, r: {"R": r, "Q": p.transpose(1, 0, 2), "beta": 0.9},
        lambda p, r: {"transitions": p, "rewards": r, "start": [1, 0, 0]},
    ],
)  # fmt: skip
def test_the_forest_has_its_values_in_every_form(value):
    found = read_value(value(*forest()))
    assert values(found) == pytest.approx(FOREST, abs=5e-4)
    assert found.table.action_mask is None


def test_rewards_of_a_state_are_earned_whatever_the_action():
    found = read_value((forest()[0], [0, 0, 4]))
    assert found.table.expected_reward.tolist() == [[0, 0], [0, 0], [4, 4]]
    assert found.form == "matrices P[A, S, S], R[S]"


def test_a_cube_is_told_by_its_rows_and_then_by_its_name():
    p = np.array([[[0.5, 0.5], [0, 1]], [[1, 0], [0.25, 0.75]]])
    r = np.array([[1.0, 0], [0, 2]])
    assert read_value((p, r)).form == "matrices P[A, S, S], R[S, A]"
    by_name = read_value({"Q": p, "R": r})
    assert by_name.form == "matrices Q[S, A, S], R[S, A]"
    assert by_name.table.probability[0, 1].tolist() == [1, 0]  # state 0, action 1
    matlab = read_value((p.transpose(1, 2, 0), r))  # only along its second axis it sums to 1
    assert matlab.form == "matrices P[S, S, A], R[S, A]"
    assert values(matlab) == pytest.approx(values(read_value((p, r))))


def test_quantecon_forbids_by_minus_infinity_as_a_product_and_as_pairs():
    reward, chance, discount = growth()
    product = read_value({"R": reward, "Q": chance, "beta": discount})
    s, a = np.nonzero(np.isfinite(reward))
    listed = read_value({"R": reward[s, a], "Q": chance[s, a], "s_indices": s, "a_indices": a})
    sparse_pairs = read_value({"R": reward[s, a], "Q": sparse.csr_array(chance[s, a]), "s_indices": s, "a_indices": a})
    for found in (product, listed, sparse_pairs):
        assert values(found).mean() == pytest.approx(21.69443, abs=1e-5)
        assert found.table.action_mask.sum() == len(s)
    assert product.table.discount == 0.9
    policy = greedy_policy(value_iteration(product.table, 0.9, product.table.action_mask).q)
    assert policy.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 5, 5, 5]


def test_rows_of_zeros_forbid_an_action():
    p, r = forest()
    p[1, 0] = 0
    found = read_value((p, r))
    assert found.table.action_mask.tolist() == [[True, False], [True, True], [True, True]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda p, r: (p, r.T), "'R' has shape [2, 3]: turn it (R.T); expected [S] = [3], [S, A] = [3, 2]"),
        (lambda p, r: (p[0], r), "'P' has shape [3, 3]: expected [A, S, S], [S, A, S] or [S, S, A]"),
        (lambda p, r: (p.transpose(0, 2, 1), r), "nearly no row of 'P' sums to 1"),
        (lambda p, r: (p * [[[1], [0.5], [1]]], r), "the probabilities of state 1, action 0 sum to 0.5, not to 1"),
        (lambda p, r: (p + np.nan, r), "state 0, action 0 has a probability of nan"),
        (lambda p, r: (p, r + np.nan), "state 0, action 0 has a reward of nan"),
        (lambda p, r: (p, "texts"), "'R' holds <U5 []: expected numbers"),
        (lambda p, r: ([[[1, 0], [1]]], r), "'P' has rows of several lengths"),
        (lambda p, r: ([sparse.eye(3), sparse.eye(2)], r), "'P' of action 1 has shape [2, 2], not [3, 3]"),
        (lambda p, r: (list(map(sparse.csr_array, p)), [sparse.eye(3)]), "'R' does not fit the transitions"),
        (lambda p, r: {"P": p}, "lacks the rewards"),
        (lambda p, r: {"R": r, "s_indices": [0]}, "lacks the transitions"),
        (lambda p, r: {"P": p, "R": r, "zzz": 1}, "holds an array 'zzz' that is not known beside P, R"),
        (lambda p, r: {"P": p, "R": r, "discount": [1, 2]}, "'discount' has shape [2]: expected one number"),
        (lambda p, r: {"P": p, "R": r, "discount": 2}, "discount: expected a number between 0 and 1, received 2.0"),
        (lambda p, r: pairs(p, r, s_indices=[0, 1, 3]), "s_indices holds 3: expected 0 to 2; count from 0"),
        (lambda p, r: pairs(p, r, s_indices=[0, 1, 1]), "the pair of state 1, action 0 occurs twice"),
        (lambda p, r: pairs(p, r, s_indices=[0, 1, -1]), "'s_indices' holds -1 at [2]: expected whole numbers from 0"),
        (lambda p, r: pairs(p, r, s_indices=[0, 1]), "Q [3, 3], R [3], s_indices [2] and a_indices [3] do not fit"),
        (lambda p, r: pairs(p, r, s_indices=[]), "'s_indices' is empty"),
        (lambda p, r: {"Q": p[0], "R": r[:, 0], "s_indices": [0, 1]}, "lacks 'a_indices'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(value, message):
    with pytest.raises(DeepTaxiError, match=re.escape(message)) as found:
        read_value(value(*forest()))
    assert "\n" not in str(found.value)


def test_npz_with_matrices_are_recognized(tmp_path):
    p, r = forest()
    path = tmp_path / "forest_PR.npz"
    np.savez(path, P=p, R=r)
    found = read_table_file(path, ReadOptions(start="0", discount=0.9))
    assert values(found) == pytest.approx(FOREST, abs=5e-4)
    assert (found.table.start.tolist(), found.table.discount) == ([1, 0, 0], 0.9)
    np.savez(path, P=np.array([sparse.eye(3)], object), R=r)
    with pytest.raises(DeepTaxiError, match=r"holds pickled objects, which are never loaded; save arrays of numbers"):
        read_table_file(path)


def test_an_npz_that_says_it_is_larger_than_memory_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "m.npz", P=forest()[0], R=forest()[1])
    monkeypatch.setattr("deeptaxi.mdp.files.array_files.most_bytes", lambda: 100)
    with pytest.raises(DeepTaxiError, match="says that its arrays take 192 bytes; at most 100 bytes are read"):
        read_table_file(tmp_path / "m.npz")


@pytest.mark.parametrize("compressed", [True, False])
def test_matlab_has_them_as_an_array_or_in_cells(tmp_path, compressed):
    p, r = forest()
    cells = np.empty((1, 2), object)
    cells[0] = [sparse.csc_matrix(p[0]), sparse.csc_matrix(p[1])]
    full = np.empty((1, 2), object)
    full[0] = list(p)
    for arrays in (
        {"P": p.transpose(1, 2, 0), "R": r},
        {"P": cells, "R": r, "discount": 0.9},
        {"P": full, "R": r, "name": "other"},
        {"P": p.transpose(1, 2, 0), "R": np.repeat(r[:, None, :], 3, 1)},
    ):
        io.savemat(tmp_path / "forest.mat", arrays, do_compression=compressed)
        assert values(read_table_file(tmp_path / "forest.mat")) == pytest.approx(FOREST, abs=5e-4)


def test_a_mat_that_unpacks_to_too_much_is_refused_before_it_is_kept(tmp_path, monkeypatch):
    io.savemat(tmp_path / "bomb.mat", {"P": np.zeros((300, 300, 3)), "R": np.zeros(300)}, do_compression=True)
    monkeypatch.setattr("deeptaxi.mdp.files.array_files.most_bytes", lambda: 2**20)
    with pytest.raises(DeepTaxiError, match=r"bomb\.mat is no readable \.mat file: it unpacks to more than is read"):
        read_table_file(tmp_path / "bomb.mat")


def test_a_mat_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "m.mat"
    for content, message in (
        (b"x", "is no readable .mat file: it does not begin like one of version 5 to 7"),
        (b"".ljust(126) + b"IM\x0e\0\0\0\xff\xff\0\0", "an element says that it has 65,535 bytes, and 0 are left"),
        (b"".ljust(126) + b"IM\x0f\0\0\0\x03\0\0\0abc", "a compressed element is damaged"),
        (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF", r"save it with save\(…, '-v7'\)"),
    ):
        path.write_bytes(content)
        with pytest.raises(DeepTaxiError, match=message):
            read_table_file(path)
    io.savemat(path, {"x": 1})
    with pytest.raises(DeepTaxiError, match="holds 'x': expected P and R"):
        read_table_file(path)
    cells = np.empty((1, 1), object)
    cells[0, 0] = "text"
    io.savemat(path, {"P": cells, "R": [1.0]})
    with pytest.raises(DeepTaxiError, match="'P' holds something other than numbers"):
        read_table_file(path)
    with pytest.raises(UsageError, match="no file at"):
        read_table_file(tmp_path / "nowhere.mat")
    for whole in ({"P": forest()[0], "R": [1.0j] * 3}, {"P": {"a": 1}, "R": [1.0]}):
        io.savemat(path, whole)
        with pytest.raises(DeepTaxiError, match="holds something other than numbers"):
            read_table_file(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_mat_is_refused_or_read(tmp_path, compressed):
    cells = np.empty((1, 2), object)
    cells[0] = list(map(sparse.csc_matrix, forest()[0]))
    path = tmp_path / "m.mat"
    io.savemat(path, {"P": cells, "R": forest()[1]}, do_compression=compressed)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place])
        with pytest.raises(DeepTaxiError):
            read_table_file(path)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_table_file(path)
        except DeepTaxiError:
            refused += 1
    assert refused > len(whole) / 7 / 3
