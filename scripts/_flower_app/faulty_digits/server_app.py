"""The server, as every user has it."""

from fedasync_jax.flower.server_app import make_server_app

app = make_server_app()
