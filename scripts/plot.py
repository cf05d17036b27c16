"""Draw the pictures of run folders again."""

from fedasync_jax.cli.plot import main

if __name__ == "__main__":
    main()
