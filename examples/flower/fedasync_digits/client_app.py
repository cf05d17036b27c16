"""A client: trains on its part of the digits (partition-id of num-partitions).

With data of your own, pass two functions, and the server's two as well:

    app = make_client_app(load_client_data, make_model)
"""

from fedasync_jax.flower.client_app import make_client_app

app = make_client_app()
