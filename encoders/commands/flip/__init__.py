"""The group `flip`: training, evaluation, experiments, files to share."""
