"""The server: mixes every model that comes back as soon as it is there."""

from fedasync_jax.flower.server_app import make_server_app

app = make_server_app()
