"""The server, as every user has it."""

from fedasync_jax.flower.server_app import make_server_app
from fedasync_jax.plotting import draw_run

app = make_server_app(draw=draw_run)
