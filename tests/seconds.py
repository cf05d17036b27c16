"""How long files of tests take, in seconds of CPU: those that take more than 4 s.

They begin first, so that no process is left alone with one at the end, and
``make test-quick`` runs all others. The table need not be exact; what to write is told
by ``pytest --durations 0``.
"""

SECONDS = {
    "cli/test_train_command.py": 90,
    "cli/test_sweep_command.py": 80,
    "benchmarks/test_benchmark.py": 50,
    "benchmarks/test_fair.py": 50,
    "parts/test_own_parts.py": 40,
    "jobs/test_compile_cache.py": 40,
    "leaderboard/test_race.py": 35,
    "engine/test_engine.py": 35,
    "schedule/test_idle_clients.py": 20,
    "benchmarks/test_fuzz.py": 20,
    "jobs/test_sweep.py": 20,
    "test_readme.py": 15,
    "engine/test_oracles.py": 15,
    "experiment/test_workload.py": 15,
    "storage/test_checkpoints.py": 15,
    "reproduction/test_reproduction.py": 15,
    "models/test_models.py": 15,
    "models/test_paper_models.py": 15,
    "worker/test_local_update.py": 15,
    "flower/test_flower_network.py": 15,
    "cli/test_command.py": 12,
    "test_command_lines.py": 12,
    "cli/test_old_runs.py": 12,
    "plotting/test_plotting.py": 12,
    "jobs/test_side_by_side.py": 12,
    "jobs/test_training.py": 12,
    "engine/test_many.py": 12,
    "flower/test_flower_rules.py": 10,
    "flower/test_flower_work.py": 10,
    "engine/test_compilation.py": 9,
    "engine/test_determinism.py": 9,
    "benchmarks/test_flower_attacks.py": 8,
    "cli/test_endings.py": 7,
    "data/test_tfds.py": 7,
    "engine/test_step_scales.py": 6,
    "engine/test_rule_contract.py": 6,
    "schedule/test_clock.py": 6,
    "models/test_frozen.py": 5,
    "worker/test_optimizers.py": 5,
    "models/test_models_page.py": 5,
}
