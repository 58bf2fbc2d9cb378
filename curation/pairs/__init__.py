"""All pairs of vectors above a cosine, exactly."""
