"""The command line of train and sweep: help, files of settings, hints, followers."""

import json
import os
import re

import pytest
from commands import run_code

from fedasync_jax.cli import completion
from fedasync_jax.cli.flag_list import SWEEP_FLAGS, TRAIN_FLAGS, list_groups
from fedasync_jax.cli.sweep import parse_sweep
from fedasync_jax.cli.train_flags import parse_train
from fedasync_jax.experiment.presets import FLEETS, PRESETS, make_settings
from fedasync_jax.experiment.settings import Settings

BOX = """
import dataclasses, sys
from fedasync_jax.cli.flags import parse_flags

@dataclasses.dataclass
class Box:
    size: int = 1
    seeds: tuple[int, ...] | None = None

parse_flags(Box, "", args=sys.argv[1:])
"""
TITLES = ["command", "data", "model", "clients' work", "mixing", "fleet", "schedule"]
TITLES += ["run"]


def show_help(capsys, parse, *words):
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 0
    return capsys.readouterr().out


def fail_on(capsys, parse, *words):
    """Return the one line that a command line ends in."""
    with pytest.raises(SystemExit) as ended:
        parse([str(word) for word in words])
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line.removeprefix("error: ").strip()


# Help


@pytest.mark.parametrize(
    ("parse", "own"), [(parse_train, TRAIN_FLAGS), (parse_sweep, SWEEP_FLAGS)]
)
def test_help_has_groups_the_most_used_first(capsys, parse, own):
    short, whole = (show_help(capsys, parse, word) for word in ("-h", "--help-all"))
    for text in (short, whole):
        assert max(map(len, text.splitlines())) <= 80
        places = [text.index(f"\n{title}: ") for title in TITLES]
        assert places == sorted(places)
        assert re.search(r"Choices: iid, shards,\s+dirichlet,", text)
    shown, all_shown = (
        set(re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)) for text in (short, whole)
    )
    named = {f"--{name.replace('_', '-')}" for name in Settings().flat()}
    assert all_shown == named | {flag.word for flag in own}
    assert {"--alpha", "--preset", "--config"} <= shown < all_shown
    number = re.search(r"^(\d+) more settings: fedasync \w+ --help-all$", short, re.M)
    assert number is not None and int(number[1]) == len(all_shown - shown)
    for name, (about, _) in {**PRESETS, **FLEETS}.items():
        assert re.search(rf"^  {name} +{re.escape(about[:30])}", whole, re.MULTILINE)


def test_every_flag_says_what_it_does():
    for group in list_groups(TRAIN_FLAGS, Settings()):
        for flag in group.flags:
            assert len(flag.help) > 10, flag.name
            assert flag.metavar or flag in TRAIN_FLAGS


def test_the_version_is_told(capsys):
    assert show_help(capsys, parse_train, "--version").startswith("fedasync-jax ")


# Hints


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--num-updates", "1e3"), "num_updates must be a whole number, got '1e3'"),
        (("--alpha", "x"), "alpha must be a number, got 'x'"),
        (("--hidden", "5", "x"), "hidden must be as --help shows it, got '5', 'x'"),
        (("--epochs",), "epochs must have a value, got none"),
        (("--seed=1.5",), "seed must be a whole number, got '1.5'"),
    ],
)
def test_a_word_of_a_wrong_kind_is_told_in_plain_words(capsys, words, said):
    assert fail_on(capsys, parse_train, *words) == said


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])  # tyro's box differs
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--foo", 3), "flags must be those that --help lists, got --foo, 3"),
        (("--size", "x"), "size must be a whole number, got 'x'"),
        (("--seeds", "x"), "seeds must be None or whole numbers, got 'x'"),
    ],
)
def test_a_plain_command_tells_it_likewise(words, said, encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = run_code(BOX, *words, env=env)
    assert (done.returncode, done.stderr) == (2, f"error: {said}\n")


def test_an_unknown_flag_has_the_nearest(capsys):
    line = fail_on(capsys, parse_train, "--alhpa", "0.5")
    assert line.startswith("flags must be those that --help-all lists, got --alhpa ")
    assert line.endswith(")") and "(nearest: --alpha" in line
    assert "--preset" in fail_on(capsys, parse_train, "--presset=digits")
    assert "--seeds" in fail_on(capsys, parse_sweep, "--seedz", 1)


def test_a_flag_without_its_value_is_one_line(capsys):
    line = fail_on(capsys, parse_sweep, "--out")
    assert line == "argument --out: expected one argument"
    assert "preset must be one of digits" in fail_on(capsys, parse_train, "--preset")


# Files


def test_a_file_of_settings_gives_way_to_flags(tmp_path):
    values = {"preset": "cifar10-small", "num-updates": 30, "alpha": 0.4}
    (tmp_path / "a.json").write_text(json.dumps(values))
    lines = ['preset = "cifar10-small"', "num_updates = 30", "alpha = 0.4"]
    (tmp_path / "a.toml").write_text("\n".join(lines))
    for name in ("a.json", "a.toml"):
        words = ["--config", str(tmp_path / name), "--alpha", "0.7"]
        command = parse_train(words)
        assert command.preset == "cifar10-small"
        wanted = make_settings("cifar10-small", num_updates=30, alpha=0.7)
        assert command.settings == wanted
        assert parse_sweep(words).settings == wanted
    command = parse_train(["--config", str(tmp_path / "a.toml"), "--preset", "digits"])
    assert command.settings == make_settings(num_updates=30, alpha=0.4)


def test_the_config_of_a_run_is_such_a_file(tmp_path):
    settings = make_settings("digits", "stragglers", alpha=0.3, run_dir="old")
    about = {"preset": "digits", "fleet": "stragglers", "settings": settings.to_json()}
    (tmp_path / "config.json").write_text(json.dumps(about))
    command = parse_train(["--config", str(tmp_path / "config.json")])
    assert (command.preset, command.fleet) == ("digits", "stragglers")
    assert command.settings == settings.replace(run_dir=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config must be a file of JSON or, named .toml, of TOML with settings"),
        ("[1]", "with a list"),
        ('{"alhpa": 1}', "names of settings, got 'alhpa' in "),
        ('{"alpha": 2}', "alpha must be in (0, 1], got 2"),
        ('{"alpha": "much"}', "alpha must be "),
        ('{"preset": "nope"}', "preset must be one of digits, "),
        ('{"num_clients": 12, "concurrency": 13}', "concurrency must be in [1, 12]"),
    ],
)
def test_a_bad_file_of_settings_is_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert message in fail_on(capsys, parse_train, "--config", path)


def test_a_file_that_is_not_there_is_one_line(tmp_path, capsys):
    line = fail_on(capsys, parse_train, "--config", tmp_path / "none.toml")
    assert line.endswith("(No such file or directory)")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.toml", "num_updates = 20\nnum-updates = 30", "must name num_updates once"),
        ("a.json", '{"alpha": 0.3, "alpha": 0.4}', "(alpha is in it twice)"),
    ],
)
def test_a_setting_stands_in_a_file_once(tmp_path, capsys, name, text, told):
    (tmp_path / name).write_text(text)
    assert told in fail_on(capsys, parse_train, "--config", tmp_path / name)


def test_a_list_in_the_place_of_a_number_is_shown_as_one(tmp_path, capsys):
    (tmp_path / "a.toml").write_text("alpha = [0.3]")
    line = fail_on(capsys, parse_train, "--config", tmp_path / "a.toml")
    assert line == "alpha must be a number, got [0.3]"


# Flags that contradict one another


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--run-dir", "there"), "run_dir must not be given together with resume, got"),
        (("--run-dir=there",), "run_dir must not be given together with resume, got"),
        (("--preset", "there"), "preset must not be given together with resume, got"),
        (("--fleet", "there"), "fleet must not be given together with resume, got"),
    ],
)
def test_a_run_goes_on_as_it_is_and_where_it_is(capsys, words, told):
    line = fail_on(capsys, parse_train, "--resume", "here", *words)
    assert line == f"{told} there"


@pytest.mark.parametrize(
    "word", ["--resume=here", "--preset=digits", "--log-to=wandb", "--tensorboard"]
)
def test_a_summary_stands_alone(capsys, word):
    line = fail_on(capsys, parse_train, "--summary", "here", word)
    assert line == f"summary must stand alone, got {word.partition('=')[0]}"


# What no run reads


SAMPLED = "max_staleness (only for schedule sampled)"


@pytest.mark.parametrize("parse", [parse_train, parse_sweep])
def test_what_is_given_and_not_read_is_noted(parse, tmp_path):
    assert parse(["--max-staleness", "2"]).note == f"not read: {SAMPLED}"
    path = tmp_path / "a.toml"
    path.write_text(f"max_staleness = 2\ndropout = {make_settings()['dropout']}")
    assert parse(["--config", str(path)]).note == f"not read: {SAMPLED}"
    assert parse(["--config", str(path), "--schedule", "sampled"]).note == ""
    assert parse(["--preset", "cifar10-small", "--max-staleness", "2"]).note == ""


def test_the_config_of_a_run_is_no_cause_for_notes(tmp_path):
    settings = make_settings(schedule="sampled", max_staleness=7).to_json()
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"settings": settings}))
    assert parse_train(["--config", str(path)]).note == ""
    words = ["--config", str(path), "--schedule", "immediate"]
    assert parse_train(words).note == f"not read: {SAMPLED}"


def test_a_grid_over_what_no_run_reads_is_refused(capsys):
    line = fail_on(capsys, parse_sweep, "--grid", "max-staleness=2,16")
    assert line == f"grid must have settings that a run reads, got {SAMPLED}"
    both = parse_sweep(["--grid", "max-staleness=2,16", "schedule=periodic,sampled"])
    assert both.axes["max_staleness"] == [2, 16]
    words = ("--grid", "hinge-a=2,3", "--methods", "fedasync-linear", "sgd")
    assert "hinge_a (only for staleness hinge)" in fail_on(capsys, parse_sweep, *words)
    assert parse_sweep([*words, "fedasync-hinge"]).note == ""


def test_a_setting_of_the_grid_is_given_once(capsys):
    line = fail_on(capsys, parse_sweep, "--grid", "alpha=0.3", "--alpha", "0.5")
    assert line == "alpha must be given once, got it in --grid, too"


# What follows the number of clients


@pytest.mark.parametrize("count", [1, 5, 12])
@pytest.mark.parametrize("schedule", ["immediate", "periodic", "sampled"])
def test_few_clients_need_no_other_flag(count, schedule):
    words = ["--num-clients", str(count), "--schedule", schedule]
    settings = parse_train(words).settings
    usual = make_settings()
    assert settings["clients_per_round"] == min(usual["clients_per_round"], count)
    if schedule == "immediate":
        assert settings["concurrency"] == min(usual["concurrency"], count)
    assert settings == make_settings(num_clients=count, schedule=schedule)


def test_what_is_given_is_refused_and_does_not_follow(capsys):
    words = ["--num-clients", "8", "--concurrency"]
    usual = str(make_settings()["concurrency"])
    for given in (usual, "9"):
        line = fail_on(capsys, parse_train, *words, given)
        assert line.startswith("concurrency must be in [1, 8] (the number of clients)")
    with pytest.raises(ValueError, match="clients_per_round must be in"):
        make_settings(num_clients=4, clients_per_round=5)


def test_more_clients_leave_the_others_as_they_are():
    usual, many = make_settings(), make_settings(num_clients=1000)
    assert many.replace(num_clients=usual["num_clients"]) == usual


@pytest.mark.parametrize("schedule", ["immediate", "periodic"])
def test_a_fleet_goes_with_a_preset_that_is_given_a_clock(schedule):
    start = ["--preset", "cifar10-paper", "--fleet", "mobile"]
    settings = parse_train([*start, "--schedule", schedule]).settings
    assert settings["schedule"] == schedule
    assert settings["failure_rate"] == 0.02


# Completion


def test_completion_knows_all_flags_of_help():
    flags = {flag.word for flag in completion.list_flags()["train"]}
    for group in list_groups(TRAIN_FLAGS, Settings()):
        assert flags >= {flag.word for flag in group.flags}
