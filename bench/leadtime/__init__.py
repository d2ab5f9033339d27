"""Measure how long before the first declined call the alerts come, at how many false pages a week."""
