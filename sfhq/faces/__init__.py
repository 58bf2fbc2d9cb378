"""Where faces are: dlib's detectors and landmarks, and the FFHQ crop."""
