"""Names of loggers, which the command line lists before it imports any."""

LOGGER_NAMES = ("tensorboard", "wandb", "mlflow")
