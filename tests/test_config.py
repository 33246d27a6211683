from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi import config
from deeptaxi.config import (
    NetworkConfig,
    OptimizerConfig,
    TrainConfig,
    dump_toml,
    known_keys,
    merge,
    read_toml,
    resolve,
)
from deeptaxi.errors import UsageError
from deeptaxi.presets import Preset, presets
from deeptaxi.schema import from_mapping, to_mapping

Q_TABLE = {"hidden": [], "dueling": False}
RAINY = {"is_rainy": True}


def preset(name):
    return presets()[name].settings


@pytest.fixture
def toml(tmp_path):
    """Write a TOML file and return its path."""

    def write(text):
        path = tmp_path / "given.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_values_override_the_preset_and_the_preset_the_defaults():
    packaged = preset("taxi.q-table")
    values = {"environment": {"id": "Taxi-v4"}, "network": Q_TABLE, "replay": {"capacity": 77}}
    resolved = resolve(values)
    assert resolved.replay.capacity == 77  # the value, not the preset's
    assert resolved.replay.batch_size == packaged["replay"]["batch_size"]
    assert resolved.optimizer.tabular_step == packaged["optimizer"]["tabular_step"] is not None  # not the default
    assert resolved.replay.start == TrainConfig().replay.start  # named nowhere else


def test_settings_of_the_problem_override_the_preset_and_not_the_values():
    problem = {"updates": 11, "discount": 0.5}
    resolved = resolve({"environment": {"id": "Taxi-v4"}, "discount": 0.25}, problem)
    assert (resolved.updates, resolved.discount) == (11, 0.25)


@pytest.mark.parametrize(
    ("name", "kwargs", "network", "fits"),
    [
        ("Taxi-v4", {}, {}, "taxi"),
        ("some.module:Taxi-v4", {}, {}, "taxi"),
        ("Taxi-v4", {}, Q_TABLE, "taxi.q-table"),
        ("Taxi-v4", {"is_rainy": False}, {}, "taxi"),
        ("Taxi-v4", RAINY, {}, "taxi-rainy"),
        ("Taxi-v4", RAINY, Q_TABLE, "taxi-rainy.q-table"),
        ("Taxi-v4", {"is_rainy": 1}, {}, None),  # as Gymnasium may take it otherwise
        ("Taxi-v4", {"fickle_passenger": True, **RAINY}, {}, "taxi-fickle"),
        ("Taxi-v4", {"unheard": 1}, {}, None),
        ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": True}, {}, "frozenlake-8x8"),
        ("FrozenLake8x8-v1", {"is_slippery": False}, {}, "frozenlake-8x8-sure"),
        ("CliffWalking-v1", {"is_slippery": True}, {}, "cliffwalking-slippery"),
        ("Unheard-v0", {}, Q_TABLE, "default.q-table"),
        ("Unheard-v0", {}, {"hidden": [], "dueling": True}, None),  # a dueling head makes it no Q table
        ("Unheard-v0", {}, {"hidden": [8], "dueling": False}, None),
    ],
)
def test_the_preset_follows_from_environment_and_network(name, kwargs, network, fits):
    values = {"environment": {"id": name, "kwargs": kwargs}, "network": network}
    expected = config.merge(to_mapping(TrainConfig()), preset(fits) if fits else {})
    for_gymnasium = {"exploration": {"exploring_starts": 0.0}, "interaction": {"environments": 32}}
    expected = config.merge(config.merge(expected, values), for_gymnasium)
    assert resolve(values) == from_mapping(TrainConfig, expected)


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_packaged_preset_is_a_sound_configuration(name):
    item = presets()[name]
    network = Q_TABLE if item.network == "q-table" else {"encoding": item.encoding}
    resolved = resolve({"environment": item.environment, "network": network, "loop": "compiled"})
    wanted = config.merge(to_mapping(resolved), item.settings)
    assert from_mapping(TrainConfig, wanted) == resolved
    assert resolved.network.kind == item.network if item.problems else True


def test_no_problem_has_two_presets():
    for kind in {(item.network, item.encoding) for item in presets().values()}:
        mine = [item for item in presets().values() if (item.network, item.encoding) == kind]
        for item in mine:
            for problem in item.problems:
                arguments = {**problem.usual, **problem.kwargs}
                assert [other.name for other in mine if other.fits(problem.id, problem.kwargs)] == [item.name]
                assert [other.name for other in mine if other.fits(problem.id, arguments)] == [item.name]


def test_presets_are_packaged_files_only(tmp_path):
    (tmp_path / "own.npz.toml").write_text("updates = 7")
    resolved = resolve({"environment": {"id": str(tmp_path / "own.npz")}})
    assert resolved.updates == TrainConfig().updates


def test_a_factored_q_table_is_refused_with_advice():
    with pytest.raises(
        UsageError, match=r"--q-table has one row of weights per state: leave out --encoding factored, or add"
    ):
        resolve({"network": {**Q_TABLE, "encoding": "factored"}})
    assert resolve({"network": {"hidden": [], "encoding": "factored"}}).network.kind == "dueling"  # linear in the parts


def test_a_learning_rate_replaces_the_tabular_step_of_the_preset():
    values = {"environment": {"id": "Taxi-v4"}, "network": Q_TABLE, "optimizer": {"learning_rate": 1}}
    optimizer = resolve(values).optimizer
    assert (optimizer.learning_rate, optimizer.tabular_step) == (1.0, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"updatse": 1}, "unknown key 'updatse'; did you mean 'updates'?"),
        ({"replay": {"capacty": 1}}, "unknown key 'replay.capacty'; did you mean 'capacity'?"),
        ({"replay": {"zzz": 1}}, "unknown key 'replay.zzz'"),
        ({"replay": 3}, "'replay' is a table of settings: write [replay]"),
        ({"network": 3}, "'network' is a table of settings: write [network]"),
        ({"environment": "Taxi-v4"}, "'environment' is a table of settings: write [environment]"),
        ({"environment": {"id": 3}}, "'environment.id' = 3: expected a string"),
        ({"environment": {"kwargs": 3}}, "'environment.kwargs' = 3: expected a table"),
        ({"environment": {"time_limit": 0}}, "[environment] time_limit = 0: expected a value above 0"),
        ({"updates": True}, "'updates' = True: expected a whole number"),
        ({"updates": 1.0}, "'updates' = 1.0: expected a whole number"),
        ({"updates": None}, "'updates' = None: expected a whole number"),
        ({"updates": 0}, "updates = 0: expected a value from 1 to 1,000,000,000"),
        ({"seed": -1}, "seed = -1: expected a value of 0 or more"),
        ({"discount": "0.9"}, "'discount' = '0.9': expected a number"),
        ({"discount": True}, "'discount' = True: expected a number"),
        ({"discount": math.nan}, "'discount' = nan: expected a finite number"),
        ({"discount": 1.01}, "discount = 1.01: expected a value between 0 and 1"),
        ({"optimizer": {"learning_rate": math.inf}}, "'optimizer.learning_rate' = inf: expected a finite number"),
        ({"optimizer": {"learning_rate": 10**400}}, "'optimizer.learning_rate'"),
        ({"optimizer": {"name": "adm"}}, "lamb, lion, nadam, rmsprop, sgd; did you mean 'adam'?"),
        ({"network": {"hidden": [64, 0]}}, "[network] hidden = 64,0: expected whole numbers above 0"),
        ({"network": {"hidden": [64.0]}}, "'network.hidden' = 64.0: expected a whole number"),
        ({"network": {"hidden": "64"}}, "'network.hidden' = '64': expected a list"),
        ({"network": {"dueling": 1}}, "'network.dueling' = 1: expected true or false"),
        ({"target": {"polyak": 0}}, "[target] polyak = 0.0: expected a value above 0 and at most 1"),
        ({"evaluation": {"objective_discount": 1.5}}, "expected a value between 0 and 1"),
        ({"optimizer": {"learning_rate": 0.1, "tabular_step": 0.1}}, "exactly one of learning_rate and tabular_step"),
        ({"optimizer": {"name": "adam", "tabular_step": 0.1}}, "set --optimizer sgd --loss mse"),
        (
            {"optimizer": {"clip_norm": 1.0, "options": {"clipvalue": 1.0}}},
            "--clip-norm and the optimizer option clipvalue both clip the gradient: leave one out",
        ),
        ({"optimizer": {"schedule": "exponential", "final_fraction": 0}}, "an exponential schedule never reaches 0"),
        ({"exploration": {"schedule": "exponential", "end": 0}}, "an exponential schedule never reaches 0"),
        (
            {"loop": "gymnasium", "exploration": {"exploring_starts": 0.1}},
            "--loop gymnasium cannot do: use --loop compiled",
        ),
        ({"loop": "fit", "exploration": {"exploring_starts": 0.1}}, "--loop fit cannot do: use --loop compiled"),
        (
            {"replay": {"capacity": 11}, "interaction": {"environments": 4}, "target": {"n_step": 3}},
            "4 environments and 3-step targets need --replay-capacity 12 or more, and it is 11",
        ),
    ],
)
def test_invalid_values_are_refused_by_name(values, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve(values)


def test_what_is_set_replaces_what_it_excludes_of_a_preset():
    several = Preset("five", settings={"target": {"n_step": 5}})
    expected = resolve({"target": {"backup": "expected"}}, preset=several).target
    assert (expected.backup, expected.n_step) == ("expected", 1)
    table = Preset("expected", settings={"target": {"backup": "expected"}})
    sampled = resolve({"target": {"n_step": 3}}, preset=table).target
    assert (sampled.backup, sampled.n_step) == ("sample", 3)
    assert resolve({"target": {"n_step": 1}}, preset=table).target.backup == "expected"
    with pytest.raises(UsageError, match="looks one step ahead"):
        resolve({"target": {"backup": "expected", "n_step": 3}}, preset=several)


@pytest.mark.parametrize(("key", "value", "option"), [("name", "adam", "--optimizer"), ("loss", "huber", "--loss")])
def test_an_optimizer_that_a_presets_step_does_not_fit_is_refused_by_its_name(key, value, option):
    tabular = Preset("stepping", settings={"optimizer": {"name": "sgd", "tabular_step": 0.3}})
    message = f"{option} {value} does not go with the preset's step, --tabular-step 0.3 of plain SGD on the mse loss: "
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve({"optimizer": {key: value}}, preset=tabular)
    advised = resolve({"optimizer": {key: value, "learning_rate": 0.01}}, preset=tabular).optimizer
    assert (getattr(advised, key), advised.tabular_step) == (value, None)


@pytest.mark.parametrize(
    ("target", "run", "correction"),
    [
        ("n_step = 3", "[run]", "none"),  # of a run saved before there was the key
        ("n_step = 3\nn_step_correction = 'watkins'", "[run]", "watkins"),
        ("n_step = 3", "", "watkins"),  # somebody's own file
        ("n_step = 1", "[run]", "watkins"),
    ],
)
def test_a_saved_run_means_what_it_meant_before_sums_were_corrected(tmp_path, target, run, correction):
    (tmp_path / "config.toml").write_text(f"[target]\n{target}\n{run}\n")
    assert resolve(read_toml(tmp_path / "config.toml")).target.n_step_correction == correction


def test_whole_numbers_pass_as_floats_and_lists_as_tuples():
    resolved = resolve({"discount": 1, "network": {"hidden": [64, 32]}})
    assert isinstance(resolved.discount, float)
    assert resolved.network.hidden == (64, 32)


def test_environment_arguments_are_replaced_not_merged():
    merged = config.merge({"environment": {"kwargs": {"a": 1}}}, {"environment": {"kwargs": {"b": 2}}})
    assert merged == {"environment": {"kwargs": {"b": 2}}}


STEP = st.one_of(
    st.builds(lambda rate: {"learning_rate": rate}, st.floats(1e-300, 1e300)),
    st.builds(lambda step: {"tabular_step": step, "name": "sgd"}, st.floats(1e-9, 1)),
)
ARGUMENT = st.one_of(st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
VALUES = st.fixed_dictionaries(
    {
        "environment": st.fixed_dictionaries(
            {"id": st.sampled_from(["Taxi-v4", "my.module:Own-v0", "Ä/own.npz"])},
            optional={"kwargs": st.dictionaries(st.text(), ARGUMENT, max_size=3), "time_limit": st.integers(1, 999)},
        ),
        "network": st.fixed_dictionaries(
            {"hidden": st.lists(st.integers(1, 512), max_size=3), "dueling": st.booleans()}
        ),
    },
    optional={"seed": st.integers(0, 2**63 - 1), "discount": st.floats(0, 1), "optimizer": STEP},
)


@given(VALUES)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_resolved_file_reproduces_the_configuration(tmp_path_factory, values):
    resolved = resolve(values)
    path = tmp_path_factory.mktemp("run") / "config.toml"
    path.write_text(dump_toml(resolved, {"preset": "none", "versions": "3"}), encoding="utf-8", newline="\n")
    assert resolve(read_toml(path)) == resolved


def test_a_file_may_name_the_tabular_step_alone_where_the_preset_sets_the_rest(toml):
    path = toml('environment.id = "Taxi-v4"\nnetwork = {hidden = [], dueling = false}\noptimizer.tabular_step = 0.25')
    assert resolve(read_toml(path)).optimizer.tabular_step == 0.25


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("exploration.exploring_starts = 0.1", {"loop": "compiled"}),
        ("replay.capacity = 8", {"interaction": {"environments": 4}}),
        ('loop = "fit"\nexploration.exploring_starts = 0.1', {"loop": "compiled"}),
    ],
)
def test_related_settings_may_be_split_between_a_file_and_an_option(toml, text, option):
    assert resolve(config.merge(read_toml(toml(text)), option)).loop == option.get("loop", "gymnasium")


def test_a_file_sets_only_what_it_names(toml):
    assert read_toml(toml("seed = 3\n[run]\npreset = 'none'")) == {"seed": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = ", "given.toml is not a TOML file: "),
        (b"\xff", "given.toml is not a TOML file: "),
        ("sede = 1", "given.toml: unknown key 'sede'; did you mean 'seed'?"),
        ("[run]\nweights_digset = 1", "given.toml: unknown key 'run.weights_digset'; did you mean 'weights_digest'?"),
        ("[environment]\nliterals = 3", "given.toml: 'environment.literals' holds Python literals as texts"),
        ("[environment.literals]\ngoal = '(1'", "given.toml: 'environment.literals.goal' = '(1': it is neither"),
        ("replay.capacity = true", "given.toml: 'replay.capacity' = True: expected a whole number"),
    ],
)
def test_a_file_with_a_mistake_is_refused_under_its_name(toml, text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        read_toml(toml(text))


def test_an_unreadable_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.toml: No such file"):
        read_toml(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        read_toml(tmp_path)


@pytest.mark.parametrize(
    ("hidden", "dueling", "kind"),
    [((128,), True, "dueling"), ((128,), False, "mlp"), ((), False, "q-table"), ((), True, "dueling")],
)
def test_the_network_has_a_kind(hidden, dueling, kind):
    assert NetworkConfig(hidden=hidden, dueling=dueling).kind == kind


def test_the_default_network_is_dueling():
    assert NetworkConfig().kind == "dueling"


@pytest.mark.parametrize("value", [math.nan, math.inf, "x", [0.1], {"a": 1}, None])
def test_options_of_the_optimizer_are_numbers_and_booleans(value):
    with pytest.raises(UsageError, match=r"options.beta_1 = .*: expected a number from 0 to below 1"):
        OptimizerConfig(options={"beta_1": value})


def test_a_network_of_ones_own_leaves_the_settings_of_layers_empty():
    found = resolve({"environment": {"id": "Taxi-v4"}, "network": {"builder": "my_net:build", "kwargs": {"width": 3}}})
    assert found.network == NetworkConfig(builder="my_net:build", kwargs={"width": 3})
    assert (found.network.kind, found.network.hidden, found.network.dueling) == ("own", (), False)
    assert to_mapping(found)["network"] == {"builder": "my_net:build", "kwargs": {"width": 3}}
    assert found.optimizer == resolve({"environment": {"id": "Taxi-v4"}}).optimizer  # of the preset, all the same


def test_a_network_of_deeptaxi_is_written_as_ever():
    assert to_mapping(TrainConfig())["network"].keys() == {
        "hidden", "dueling", "aggregation", "activation", "encoding", "initial_value",
    }  # fmt: skip


@pytest.mark.parametrize("kwargs", [{"width": 64}, {"pair": (1, 2), "none": None, "text": "a b"}])
def test_arguments_of_a_network_are_read_back_as_they_were(kwargs, tmp_path):
    whole = from_mapping(TrainConfig, {"network": {"builder": "my_net:build", "kwargs": kwargs}})
    path = tmp_path / "config.toml"
    path.write_text(dump_toml(whole, {}))
    assert from_mapping(TrainConfig, read_toml(path)) == whole


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"builder": "a:b", "hidden": [128]}, "--network builds the whole network: leave out --hidden (network.hidden"),
        ({"builder": "a:b", "dueling": False}, "leave out --dueling/--no-dueling (network.dueling in a file)"),
        ({"builder": "a:b", "aggregation": "mean"}, "leave out --aggregation"),
        ({"builder": "a:b", "activation": "relu"}, "leave out --activation"),
        ({"builder": "a:b", "encoding": "joint"}, "leave out --encoding"),
        ({"builder": "a:b", "initial_value": 0.0}, "leave out --initial-value"),
        ({"builder": "my_net"}, "expected module:function or file.py:function, such as my_net:build"),
        ({"kwargs": {"a": 1}}, "--network-arg is an argument of what --network names: add --network"),
    ],
)
def test_a_network_of_ones_own_excludes_the_settings_of_layers(network, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve({"network": network})


def test_a_network_of_ones_own_excludes_them_where_it_is_constructed_too():
    with pytest.raises(UsageError, match="leave out --hidden"):
        NetworkConfig(builder="a:b", hidden=(64,))


def test_options_without_an_optimizer_are_those_of_the_one_that_is_chosen_later():
    values = {"optimizer": {"options": {"epsilon": 1e-3}}}
    known_keys(values)  # as a file's, before the preset has named the optimizer
    assert resolve({"environment": {"id": "Taxi-v4"}, **values}).optimizer.options == {"epsilon": 1e-3}
    with pytest.raises(UsageError, match=r"options.epsilon: optimizer sgd has no such option"):
        resolve(merge({"environment": {"id": "Taxi-v4"}, "optimizer": {"name": "sgd"}}, values))
    with pytest.raises(UsageError, match=r"options.epsilon: optimizer sgd has no such option"):
        known_keys(merge(values, {"optimizer": {"name": "sgd"}}))
