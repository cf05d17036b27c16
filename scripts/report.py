"""Write a page that shows runs."""

from fedasync_jax.cli.report import main

if __name__ == "__main__":
    main()
