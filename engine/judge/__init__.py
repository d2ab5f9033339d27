"""Steps 5 to 7, roll, detect and update: knows limits, windows, detectors and alerts."""
