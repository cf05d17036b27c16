"""The flags --ray, --ray-cpus and --ray-gpus of commands that can run on a cluster."""

from fedasync_jax.jobs.cluster import ClusterChoice, check_cluster


def choose_cluster(
    ray: str | None, ray_cpus: str | int | None, ray_gpus: str | float | None
) -> ClusterChoice | None:
    """Return the cluster that flags ask for; None: none.

    Raises:
      ValueError: in one line, if a flag is out of range or misses ``--ray``.
    """
    if ray is None:
        for name, value in (("ray_cpus", ray_cpus), ("ray_gpus", ray_gpus)):
            if value is not None:
                raise ValueError(f"{name} must be given with --ray, got {value} alone")
        return None
    choice = ClusterChoice(
        ray,
        None if ray_cpus is None else int(_parse("ray_cpus", ray_cpus, int)),
        None if ray_gpus is None else _parse("ray_gpus", ray_gpus, float),
    )
    check_cluster(choice)
    return choice


def _parse(name: str, value: str | float, kind: type[int] | type[float]) -> float:
    try:
        return kind(value)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} must be {what}, got {value}") from error
