"""From latents to photographs: sampling, candidates, the prior over latents."""
