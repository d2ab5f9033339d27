"""What each detector reaches, beside what was asked of it."""
