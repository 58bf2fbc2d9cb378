"""The label network: masks, soft hair, points, pose, gaze and attributes of a face crop."""
