"""The encoder e4e: network, fast inference, training, and reading of published checkpoints."""
