"""e4e: network, fast inference, training, published checkpoints."""
