"""Compare FedAsync with its baselines on one data set and one fleet of clients."""

from fedasync_jax.cli.train import main

if __name__ == "__main__":
    main()
