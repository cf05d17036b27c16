"""``python -m fedasync_jax``: the command ``fedasync``."""

from fedasync_jax.cli.command import main

if __name__ == "__main__":
    main()
