"""FedAsync between real machines, on Flower: Algorithm 1 over a network.

``server_app.make_server_app`` and ``client_app.make_client_app`` make the two halves of
a Flower app. Only ``adapter`` imports flwr (the extra ``flower``); ``coordinator``,
``limits`` and ``arrays`` are plain bookkeeping and checks.
"""
