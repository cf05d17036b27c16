"""Compare mixing rules on the leaderboard."""

from fedasync_jax.cli.leaderboard import main

if __name__ == "__main__":
    main()
