"""Run a grid of settings with several seeds, and make one table."""

from fedasync_jax.cli.sweep import main

if __name__ == "__main__":
    main()
