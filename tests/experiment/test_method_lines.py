"""Methods as lines: rules by name with settings, one's own by their import path."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax.engine.plan import as_pytree
from fedasync_jax.engine.stacking import find_difference
from fedasync_jax.experiment.build import build_workload, make_methods
from fedasync_jax.experiment.method_names import METHODS, parse_method
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.mixing.rules import RULES

SMALL = {
    "num_updates": 60,
    "num_clients": 8,
    "concurrency": 4,
    "hidden": (4,),
    "clients_per_round": 2,
}
OWN = '''
import jax.numpy as jnp
from fedasync_jax import tree
from fedasync_jax.base import Mixer, MixInfo

def my_rule(step: float = 0.5, *, arrivals) -> Mixer:
    """A rule that reads how many samples a client has and how many are in flight."""
    share = arrivals.num_samples / arrivals.num_samples.max()
    weights = jnp.asarray(step * share / arrivals.num_in_flight, jnp.float32)

    def update(local, state, current, *, start, version, **others):
        weight = weights[version]
        mixed = tree.add_scaled(current, weight, tree.sub(local, start))
        return mixed, state, MixInfo(weight, jnp.asarray(True))

    return Mixer(lambda model: (), update)

number = 3
'''


@pytest.fixture(scope="module")
def workload():
    return build_workload(make_settings(**SMALL))


def make(workload, *lines, **more):
    settings = make_settings(methods=lines, **{**SMALL, **more})
    return list(make_methods(settings, workload))


# What a line says


def test_old_names_are_shown_as_they_were(workload):
    names = ("fedasync-constant", "fedasync-polynomial", "fedasync-hinge", "fedavg")
    shown = [method.name for method in make(workload, *names, polynomial_a=0.7)]
    assert shown == [
        "FedAsync constant",
        "FedAsync polynomial(0.7)",
        "FedAsync hinge(10, 4)",
        "FedAvg",
    ]


def test_settings_of_a_line_are_those_of_the_rule(workload):
    line = "fedasync:staleness=hinge,a=2,b=1,alpha=0.9"
    (method,) = make(workload, line)
    d = np.asarray(method.staleness, np.float32)
    assert d.max() > 2 and method.name == line
    expected = 0.9 / (2 * np.maximum(d - 1, 0) + 1)
    assert method.expected_alpha is not None
    np.testing.assert_allclose(method.expected_alpha, expected, rtol=1e-6)


def test_a_line_goes_before_flags_and_flags_before_defaults(workload):
    lines = "delta", "delta:step=0.3", "fedasync", "fedasync:alpha=0.2"
    methods = make(workload, *lines, delta_step=0.7, alpha=0.5)
    tops = [np.asarray(method.expected_alpha).max() for method in methods]
    np.testing.assert_allclose(tops, [0.7, 0.3, 0.5, 0.2], rtol=1e-6)


def test_staleness_of_a_buffer_is_shown_in_its_versions(workload):
    plain, buffered = make(workload, "delta", "fedbuff:size=6")
    trace = plain.trace
    np.testing.assert_array_equal(plain.staleness, trace.staleness)
    rows = np.arange(60)
    np.testing.assert_array_equal(
        buffered.staleness, rows // 6 - trace.start_version // 6
    )
    assert buffered.staleness.mean() < plain.staleness.mean() / 2


@pytest.mark.parametrize("name", RULES)
def test_other_numbers_share_a_program(name, workload):
    """So a rule is compiled once, whatever its numbers are; tables tell, or leaves."""
    other = {
        "fedasync": "alpha=0.3,staleness=hinge",
        "delta": "step=0.3,staleness=linear",
        "fedbuff": "size=3,step=2,staleness=constant",
        "delay-adaptive": "step=0.2,usual=2",
        "cutoff": "step=0.2,limit=2",
        "asyncfeded": "step=0.2,eps=2",
        "server": "step=0.2,momentum=0.5,size=3,staleness=hinge",
        "fadas": "size=3,step=0.2,usual=2,b1=0.5,b2=0.5,eps=1",
        "tethered": "most=0.2,reach=1,guard=0",
        "ca2fl": "size=3,step=0.2",
        "area": "size=3",
        "trimmed": "cut=0.3,step=2,staleness=constant",
    }[name]
    for average in ("average=9", "average=2"):
        methods = make(workload, f"{name}:average=9", f"{name}:{other},{average}")
        parts = [as_pytree(method.mixer.update) for method in methods]
        assert find_difference(parts) is None
        assert len({method.mixer.evaluated for method in methods}) == 1


# A rule of one's own


@pytest.fixture
def own(tmp_path, monkeypatch):
    name = "own_rule_of_a_test"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return f"{name}.my_rule"


def test_a_rule_is_used_by_its_import_path(own, workload):
    (method,) = make(workload, f"{own}:step=0.1,average=4")
    assert method.name == f"{own}:step=0.1,average=4"
    model = {"w": np.ones(2, np.float32)}
    zero = {"w": np.zeros(2, np.float32)}
    mixed, _, info = method.mixer.update(
        model,
        method.mixer.init(zero),
        zero,
        start=zero,
        staleness=jnp.int32(0),
        version=jnp.int32(5),
        client=jnp.int32(0),
    )
    counts = workload.counts[method.trace.client]
    assert (method.trace.count_in_flight() == 4).all()  # every one starts at once
    expected = 0.1 * counts[5] / counts.max() / 4
    assert float(info.alpha) == pytest.approx(expected)
    np.testing.assert_allclose(mixed["w"], expected, rtol=1e-6)


CLASHING = """
import fedasync_jax as fa

def of_alpha(alpha):
    return fa.mixing.fedasync(alpha, fa.mixing.staleness.constant())

def of_b(staleness_fn, b: float = 0.5):
    return fa.mixing.fedasync(b, staleness_fn)
"""


@pytest.fixture
def clashing(tmp_path, monkeypatch):
    name = "clashing_rules_of_a_test"
    (tmp_path / f"{name}.py").write_text(CLASHING)
    monkeypatch.chdir(tmp_path)
    return name


def _alphas(method):
    assert method.expected_alpha is not None
    return method.expected_alpha


def test_alpha_of_a_line_drops_as_that_of_the_flags(clashing, workload):
    of_alpha = f"{clashing}.of_alpha"
    lines = (of_alpha, f"{of_alpha}:alpha=0.4", "fedasync:alpha=0.4")
    methods = make(workload, *lines, alpha=0.8, alpha_drop_at=30, num_updates=40)
    for method, alpha in zip(methods, (0.8, 0.4, 0.4), strict=True):
        expected = np.repeat([alpha, alpha / 2], [30, 10])
        np.testing.assert_allclose(_alphas(method), expected, rtol=1e-6)


def test_an_argument_of_a_rule_is_not_that_of_the_staleness_function(
    clashing, workload
):
    line = f"{clashing}.of_b:staleness=hinge,b=0.25"
    known, own = make(workload, "fedasync:staleness=hinge,alpha=0.25", line, hinge_b=1)
    assert len(set(_alphas(known).tolist())) > 1
    np.testing.assert_array_equal(_alphas(own), _alphas(known))


# Bad lines


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "fedbuf",
            r"methods must be rules or baselines, got 'fedbuf' \(nearest: fedbuff\)",
        ),
        ("zzz", "methods must be one of fedasync-constant, .*, sgd, got 'zzz'"),
        (
            "fedbuff:sise=3",
            r"fedbuff takes size, step, staleness, average, got sise \(nearest: size\)",
        ),
        ("fedbuff:size=0", "fedbuff: size must be finite and >= 1, got 0"),
        ("fedbuff:size=2.5", "fedbuff: size must be a whole number, got '2.5'"),
        ("delta:step=big", "delta: step must be a number, got 'big'"),
        ("delta:step=nan", "delta: step must be finite and > 0, got nan"),
        ("delta:step", "settings of delta must be different NAME=VALUE, .*'step'"),
        ("delta:", "settings of delta must be different NAME=VALUE, .*''"),
        ("delta:step=1,step=2", "must be different NAME=VALUE"),
        ("delta:staleness=hing", "delta: staleness must be one of constant, .*'hing'"),
        ("delta:average=0.5", "delta: average must be finite and >= 1, got 0.5"),
        ("fedasync:alpha=2", r"fedasync: alpha must be in \(0, 1\], got 2"),
        (
            "fedasync:staleness=hinge,b=-1",
            "fedasync: b must be finite and >= 0, got -1",
        ),
        ("sgd:step=1", "sgd takes batch_size, step_size, got step"),
        ("no_such_module.rule", r"import paths, got 'no_such_module.rule' \(ModuleNot"),
    ],
)
def test_a_bad_line_is_one_line(line, words):
    with pytest.raises(ValueError, match=words) as error:
        make_settings(methods=(line,))
    assert "\n" not in str(error.value) and len(str(error.value)) <= 300


def test_what_is_no_function_is_refused(own):
    with pytest.raises(ValueError, match=r"functions that return a rule, got .* a int"):
        parse_method(own.replace("my_rule", "number"))
    with pytest.raises(ValueError, match="takes step, average, got arrivals"):
        parse_method(f"{own}:arrivals=3")


@pytest.mark.parametrize(
    "lines",
    [
        ("fedasync", "fedasync-constant"),
        ("fedbuff:size=3,step=1", "fedbuff:step=1.0,size=3"),
    ],
)
def test_the_same_method_twice_is_refused(lines):
    with pytest.raises(ValueError, match="one or more different names, got fed"):
        make_settings(methods=lines)


def test_a_buffer_larger_than_the_run_is_one_line(workload):
    with pytest.raises(ValueError) as error:
        make(workload, "fedbuff:size=61")
    words = "size must be in [1, 60] (the number of updates), got 61"
    assert str(error.value) == words


def test_a_model_per_client_must_fit_the_memory(workload, monkeypatch):
    monkeypatch.setattr("fedasync_jax.mixing.per_client.MAX_BYTES", 5000)
    with pytest.raises(
        ValueError, match=r"num_clients must be in \[1, 4\] for .* area"
    ):
        make(workload, "area")


def test_every_name_is_a_method(workload):
    lines = [name for name in METHODS if name != "fedasync"]
    names = [method.name for method in make(workload, *lines)]
    assert len(set(names)) == len(lines)
