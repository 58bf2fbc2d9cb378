"""Training of the label network: on rendered heads, and on photos by what teachers see."""
