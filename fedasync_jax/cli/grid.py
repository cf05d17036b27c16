"""The grid of a sweep: settings, and the values that each of them takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedasync_jax.cli.flag_list import spell_flag
from fedasync_jax.cli.flags import parse_settings
from fedasync_jax.experiment.settings import Settings, name_parts
from fedasync_jax.parts.nearest import name_nearest

NOT_SWEPT = ("seed", "run_dir")  # --seeds and --out take their places


def parse_grid(texts: Sequence[str], settings: Settings) -> dict[str, list[Any]]:
    """Return the values by name of the setting.

    Args:
      texts: each ``NAME=VALUE,VALUE``.
      settings: of all runs, but for what is swept.

    Raises:
      ValueError: in one line, if a text is none, or a value is not allowed.
    """
    words: dict[str, list[list[str]]] = {}
    for text in texts:
        name, values = _split_axis(text, settings)
        if name in words:
            raise ValueError(f"grid must name a setting once, got {name} again: {text}")
        words[name] = values
    axes = {}
    for name, values in words.items():
        # With the first values of the others, as settings may need one another.
        combinations = [
            {**{other: first for other, (first, *_) in words.items()}, name: value}
            for value in values
        ]
        parsed = [_parse_values(combination, settings) for combination in combinations]
        axes[name] = [one[name] for one in parsed]
        if len(set(axes[name])) < len(values):
            raise ValueError(f"grid must have different values, got {name} twice alike")
    return axes


def _split_axis(text: str, settings: Settings) -> tuple[str, list[list[str]]]:
    """Return the name of a setting and the words of its values."""
    flag, _, values = text.partition("=")
    name = flag.strip("-").replace("-", "_")
    known = [one for one in name_parts() if one not in NOT_SWEPT]
    if name not in known or not values:
        near = "" if name in known else name_nearest(name, known)
        raise ValueError(
            "grid must be NAME=VALUE,VALUE with the name of a setting other than "
            f"{' and '.join(NOT_SWEPT)}, got {text}{near}"
        )
    is_list = isinstance(settings[name], tuple)
    return name, [v.split("+") if is_list else [v] for v in _split_values(values)]


def _split_values(values: str) -> list[str]:
    """Return what stands between commas; those inside of a method's line stay.

    >>> _split_values("delta:step=0.1,average=9,sgd")
    ['delta:step=0.1,average=9', 'sgd']
    """
    split: list[str] = []
    for value in values.split(","):
        goes_on = split and ":" in split[-1].split("+")[-1] and ":" not in value
        if goes_on and "=" in value.split("+")[0]:
            split[-1] += f",{value}"
        else:
            split.append(value)
    return split


def _parse_values(
    combination: Mapping[str, Sequence[str]], settings: Settings
) -> Settings:
    args = []
    for name, words in combination.items():
        args += [spell_flag(name), *words]
    return parse_settings(args=args, default=settings)
