"""The literal, serial Algorithm 1: one task at a time, every model kept."""

import jax

from fedasync_jax import tree


def run_serially(trace, local_update, mixer, variables, key):
    """Return all versions x_0 .. x_T of a run, in order."""
    models = [variables]
    mixer_state = mixer.init(variables)
    for t in range(trace.num_updates):
        tau = int(trace.start_version[t])
        client = trace.client[t]
        task_key = jax.random.fold_in(key, int(trace.task[t]))
        local, _ = local_update(models[tau], client, task_key, int(trace.num_steps[t]))
        if not bool(tree.all_finite(local)):
            models.append(models[-1])
            continue
        mixed, mixer_state, _ = mixer.update(
            local,
            mixer_state,
            models[-1],
            start=models[tau],
            staleness=jax.numpy.int32(t - tau),
            version=jax.numpy.int32(t),
            client=jax.numpy.int32(client),
        )
        models.append(mixed)
    return models
