"""A terminal pane beside Hermes Agent: its traces live, kept, and proven to be in MLflow."""

__version__ = "0.1.0"
