"""The literal, serial Algorithm 1: one task at a time, every model kept."""

import jax

from fedasync_jax import tree
from fedasync_jax.engine.carried import init_mixer, mix_floats


def run_serially(
    trace, local_update, mixer, variables, key, step_scale_fn=None, at_once=False
):
    """Return all versions x_0 .. x_T of a run, in order.

    ``step_scale_fn(models)`` gives the factor on the step size that is sent with the
    newest of ``models``. If it applies ``at_once``, every task has the newest factor.
    """
    models = [variables]
    scales = [step_scale_fn(models)] if step_scale_fn else []
    mixer_state, every = init_mixer(mixer, variables), mixer.versions_every
    for t in range(trace.num_updates):
        tau = int(trace.start_version[t])
        client = trace.client[t]
        task_key = jax.random.fold_in(key, int(trace.task[t]))
        scale = scales[t if at_once else tau :][:1]
        local, _ = local_update(
            models[tau], client, task_key, int(trace.num_steps[t]), *scale
        )
        if not bool(tree.all_finite(local)):
            models.append(models[-1])
            scales.extend([step_scale_fn(models)] if step_scale_fn else [])
            continue
        mixed, mixer_state, _ = mix_floats(
            mixer.update,
            local,
            mixer_state,
            models[-1],
            start=models[tau],
            staleness=jax.numpy.int32(t // every - tau // every),
            version=jax.numpy.int32(t),
            client=jax.numpy.int32(client),
        )
        models.append(mixed)
        scales.extend([step_scale_fn(models)] if step_scale_fn else [])
    return models
